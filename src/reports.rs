//! In: summaries, comparisons, checks, or scored runs. Out: the tables and charts that people look at, as text, and the folder of
//! a report. Writing the files of a single run is left to the command.

pub mod address;
pub(crate) mod agreement_table;
mod audit_differences;
pub mod audit_page;
pub(crate) mod chance_table;
pub mod charts;
pub mod check_reports;
pub(crate) mod comparison_tables;
pub(crate) mod control_table;
mod correction_tables;
pub mod differences;
pub mod drawing;
pub(crate) mod escape;
pub(crate) mod exported_tables;
pub(crate) mod figure_table;
pub(crate) mod gallery_data;
pub(crate) mod history;
pub mod html;
pub mod numbers;
mod page_template;
pub(crate) mod paper_table;
pub(crate) mod published_table;
pub(crate) mod report_folder;
pub(crate) mod report_input;
pub(crate) mod report_table;
pub(crate) mod report_tables;
pub(crate) mod run_charts;
pub(crate) mod settings_tables;
pub mod terminal;
pub mod thumbnails;
mod unfinished_folder;

pub(crate) use agreement_table::{agreement_csv, agreement_text, ensembles_csv};
pub use audit_differences::corrected_comparison_text;
pub use charts::category_chart;
pub use comparison_tables::{comparison_csv, comparison_markdown, comparison_terminal};
pub(crate) use control_table::{always_yes_csv, control_text};
pub use correction_tables::{correction_csv, correction_markdown, correction_text};
pub use exported_tables::{csv_table, html_table, latex_table, markdown_table};
pub use figure_table::{Cell, FigureTable, Level, printed};
pub use terminal::terminal_table;
