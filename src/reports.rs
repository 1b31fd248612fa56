//! In: summaries, comparisons, checks, or scored runs. Out: the tables and charts that people look at, as text, and the folder of
//! a report. Writing the files of a single run is left to the command.

pub mod address;
pub mod agreement_table;
pub mod charts;
pub mod check_reports;
pub mod comparison_tables;
pub mod differences;
pub mod drawing;
pub mod escape;
pub mod exported_tables;
pub mod figure_table;
pub mod gallery_data;
pub mod html;
pub mod numbers;
mod png_rows;
pub mod published_table;
pub mod report_folder;
pub mod report_input;
pub mod report_table;
pub mod report_tables;
pub mod run_charts;
pub mod settings_tables;
pub mod terminal;
pub mod thumbnails;

pub use agreement_table::{agreement_csv, agreement_text};
pub use charts::category_chart;
pub use comparison_tables::{comparison_csv, comparison_markdown, comparison_terminal};
pub use exported_tables::{csv_table, latex_table, markdown_table};
pub use figure_table::{Cell, FigureTable, Level, printed};
pub use terminal::terminal_table;
