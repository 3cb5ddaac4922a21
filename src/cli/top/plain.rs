//! The board as plain text, for scripts.

use std::fmt::Write;

use super::board::{Board, Column, Row};

/// A line of titles, then one for each upstream and endpoint.
pub(super) fn text(board: &Board) -> String {
    let mut lines = vec![Column::ALL.map(|column| column.title().to_owned())];
    lines.extend(board.rows().into_iter().map(cells));
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or_default();
    let widths: Vec<usize> = (0..Column::ALL.len()).map(width).collect();
    let mut text = String::new();
    for line in &lines {
        let mut row = String::new();
        for (index, (cell, width)) in line.iter().zip(&widths).enumerate() {
            // Numbers to the right.
            let _ = if index < 2 { write!(row, "{cell:<width$}  ") } else { write!(row, "{cell:>width$}  ") };
        }
        text.push_str(row.trim_end());
        text.push('\n');
    }
    text
}

/// A row, cell by cell, as the columns are.
pub(super) fn cells(row: &Row) -> [String; Column::ALL.len()] {
    let indent = if row.head { "" } else { "  " };
    [
        format!("{indent}{}", row.name),
        row.state.clone(),
        row.weight.map_or_else(String::new, |weight| weight.to_string()),
        format!("{:.1}", row.per_second),
        format!("{:.1}%", row.errors * 100.0),
        row.in_flight.to_string(),
        format!("{:.1}", row.p50),
        format!("{:.1}", row.p95),
        format!("{:.1}", row.p99),
    ]
}

#[cfg(test)]
mod tests {
    use super::{super::board::tests::board, *};

    #[test]
    fn columns_are_aligned() {
        insta::assert_snapshot!(text(&board()));
    }
}
