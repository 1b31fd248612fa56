//! `score` on run directories: what is withheld, what is written, and that scoring twice writes the
//! same bytes.
