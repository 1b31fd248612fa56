//! In: a checkpoint in its published layout. Out: networks over tensors. Nothing here knows of
//! prompts, items or runs.
