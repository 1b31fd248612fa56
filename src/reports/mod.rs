//! In: a summary, or several judges compared. Out: the tables and charts that people look at, as text.
//! Writing them to disk is left to the command.

pub mod agreement_table;
pub mod charts;
pub mod check_reports;
pub mod comparison_tables;
pub mod exported_tables;
pub mod figure_table;
pub mod published_table;
pub mod terminal;

pub use agreement_table::{agreement_csv, agreement_text};
pub use charts::category_chart;
pub use comparison_tables::{comparison_csv, comparison_markdown, comparison_terminal};
pub use exported_tables::{csv_table, latex_table, markdown_table};
pub use figure_table::{Cell, FigureTable, Level};
pub use terminal::terminal_table;
