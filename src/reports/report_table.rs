//! In: rows of a table, as they are printed and as they are computed with. Out: the table as HTML,
//! Markdown and LaTeX (printed) and as CSV (full precision).

use super::escape::escape;
use super::exported_tables::{escape_latex, escape_markdown};

/// A table of the report.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ReportTable {
    /// Name of its files, without their endings.
    pub name: String,
    /// What it shows.
    pub caption: String,
    /// Headings of the printed columns; the first names the rows.
    pub headings: Vec<String>,
    /// Printed rows.
    pub rows: Vec<TableRow>,
    /// Headings of the CSV.
    pub csv_headings: Vec<&'static str>,
    /// Rows of the CSV.
    pub csv_rows: Vec<Vec<String>>,
}

/// A printed row.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct TableRow {
    /// What the row is about.
    pub name: String,
    /// Whether it belongs below the row above it.
    pub indented: bool,
    /// Whether its cells are words, not numbers.
    pub is_text: bool,
    /// Whether it needs looking at.
    pub marked: bool,
    /// One per column after the first.
    pub cells: Vec<String>,
}

impl ReportTable {
    fn is_text(&self) -> bool {
        self.rows.iter().all(|row| row.is_text)
    }

    /// A `table` element with a caption and heading cells.
    pub fn html(&self) -> String {
        let mut html = format!(
            "<div class=\"scroll\" role=\"region\" aria-label=\"{0}\" tabindex=\"0\">\
             <table{1}>\n<caption><span>{0}</span></caption>\n<thead><tr>",
            escape(&self.caption),
            if self.is_text() { " class=\"words\"" } else { "" }
        );
        for heading in &self.headings {
            html.push_str(&format!("<th scope=\"col\">{}</th>", escape(heading)));
        }
        html.push_str("</tr></thead>\n<tbody>\n");
        for row in &self.rows {
            let mut classes = Vec::new();
            for (is_so, class) in [(row.indented, "below"), (row.marked, "marked")] {
                if is_so {
                    classes.push(class);
                }
            }
            html.push_str(&match classes.is_empty() {
                true => "<tr>".to_owned(),
                false => format!("<tr class=\"{}\">", classes.join(" ")),
            });
            let mut name = escape(&row.name);
            if row.is_text {
                // Names of settings, which have no blanks at which a narrow column could break them.
                name = name.replace('.', ".<wbr>").replace('_', "_<wbr>");
            }
            html.push_str(&format!("<th scope=\"row\" dir=\"auto\">{name}"));
            if row.marked {
                html.push_str(" <span class=\"differs\">differs</span>");
            }
            html.push_str("</th>");
            for cell in &row.cells {
                html.push_str(&format!("<td>{}</td>", escape(cell)));
            }
            html.push_str("</tr>\n");
        }
        html.push_str("</tbody></table></div>\n");
        html
    }

    /// A Markdown table below its caption.
    pub fn markdown(&self) -> String {
        let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
        let escaped = |cells: &[String]| -> Vec<String> {
            cells.iter().map(|cell| escape_markdown(cell).replace(['\n', '\r'], " ")).collect()
        };
        let mut text = format!("**{}**\n\n", escape_markdown(&self.caption));
        text.push_str(&line(&escaped(&self.headings)));
        let rule = if self.is_text() { "---" } else { "---:" };
        let columns = self.headings.len().saturating_sub(1);
        text.push_str(&format!("| --- |{}\n", format!(" {rule} |").repeat(columns)));
        for row in &self.rows {
            let indent = if row.indented { "&nbsp;&nbsp;" } else { "" };
            let mut cells = escaped(&row.cells);
            cells.insert(0, format!("{indent}{}", escaped(std::slice::from_ref(&row.name))[0]));
            text.push_str(&line(&cells));
        }
        text
    }

    /// A `tabular` for LaTeX; needs the package `booktabs`.
    pub(crate) fn latex(&self) -> String {
        let columns = self.headings.len().saturating_sub(1);
        let plain = |text: &str| escape_latex(&text.replace(['\n', '\r'], " "));
        let mut text = format!(
            "% {}\n% Needs \\usepackage{{booktabs}}\n\\begin{{tabular}}{{l{}}}\n\\toprule\n",
            self.caption.replace(['\n', '\r'], " "),
            if self.is_text() { "l" } else { "r" }.repeat(columns)
        );
        let headings: Vec<String> = self.headings.iter().map(|heading| plain(heading)).collect();
        text.push_str(&format!("{} \\\\\n\\midrule\n", headings.join(" & ")));
        for row in &self.rows {
            let indent = if row.indented { "\\quad " } else { "" };
            text.push_str(&format!("{indent}{}", plain(&row.name)));
            for cell in &row.cells {
                let cell =
                    plain(cell).replace('±', "$\\pm$").replace('−', "$-$").replace('–', "--");
                text.push_str(&format!(" & {cell}"));
            }
            text.push_str(" \\\\\n");
        }
        text.push_str("\\bottomrule\n\\end{tabular}\n");
        text
    }

    /// The CSV.
    ///
    /// # Errors
    /// The CSV writer refused (a programming error).
    pub fn csv(&self) -> Result<Vec<u8>, csv::Error> {
        let mut writer = csv::Writer::from_writer(Vec::new());
        writer.write_record(&self.csv_headings)?;
        for row in &self.csv_rows {
            writer.write_record(row)?;
        }
        writer.into_inner().map_err(|error| error.into_error().into())
    }
}

/// What stands where there is no figure.
pub(crate) const NONE: &str = "–";
