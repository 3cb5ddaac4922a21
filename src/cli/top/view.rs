//! The board on a terminal.

use ratatui::{
    Frame,
    layout::{Constraint, Layout},
    style::{Color, Modifier, Style, Stylize},
    text::Line,
    widgets::{Paragraph, Row as Cells, Table, TableState},
};

use super::{
    board::{Board, Column},
    plain,
};

/// Draws everything.
pub(super) fn draw(frame: &mut Frame<'_>, board: &Board, address: &str) {
    let [title, table, help] =
        Layout::vertical([Constraint::Length(1), Constraint::Min(1), Constraint::Length(1)]).areas(frame.area());
    frame.render_widget(Paragraph::new(headline(board, address)), title);
    let mut state = TableState::default().with_selected(Some(board.selected));
    frame.render_stateful_widget(rows(board), table, &mut state);
    frame.render_widget(Paragraph::new("q quit   up/down select   left/right sort by   r turn round").dim(), help);
}

fn headline(board: &Board, address: &str) -> Line<'static> {
    if let Some(trouble) = &board.trouble {
        // Only its first line has room.
        let first = trouble.lines().next().unwrap_or_default();
        return Line::styled(format!("lost: {first}"), Style::new().fg(Color::Red).add_modifier(Modifier::BOLD));
    }
    let Some(stats) = board.stats() else { return Line::raw(address.to_owned()) };
    let ready = if stats.ready { "ready" } else { "not ready" };
    Line::raw(format!("weir {} at {address}, generation {}, {ready}", stats.version, stats.generation))
}

fn rows(board: &Board) -> Table<'static> {
    let (sorted, turned) = board.sorted_by();
    let titles = Column::ALL.map(|column| match column == sorted {
        true => format!("{}{}", column.title(), if turned { "^" } else { "v" }),
        false => column.title().to_owned(),
    });
    let rows = board.rows().into_iter().map(|row| {
        // The words say the same as the colours.
        let style = match (row.head, row.alive) {
            (true, true) => Style::new().add_modifier(Modifier::BOLD),
            (true, false) => Style::new().fg(Color::Red).add_modifier(Modifier::BOLD),
            (false, true) => Style::new(),
            (false, false) => Style::new().fg(Color::Red),
        };
        Cells::new(plain::cells(row)).style(style)
    });
    let widths = [
        Constraint::Min(24),
        Constraint::Min(16),
        Constraint::Length(7),
        Constraint::Length(9),
        Constraint::Length(7),
        Constraint::Length(10),
        Constraint::Length(8),
        Constraint::Length(8),
        Constraint::Length(8),
    ];
    Table::new(rows, widths)
        .header(Cells::new(titles).style(Style::new().add_modifier(Modifier::UNDERLINED)))
        .row_highlight_style(Style::new().add_modifier(Modifier::REVERSED))
}

#[cfg(test)]
mod tests {
    use ratatui::{Terminal, backend::TestBackend};

    use super::{
        super::{board::tests::board, keys::Key},
        *,
    };

    fn screen(board: &Board, width: u16, height: u16) -> String {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(frame, board, "http://127.0.0.1:9900")).unwrap();
        terminal.backend().to_string()
    }

    #[test]
    fn a_screen() {
        insta::assert_snapshot!(screen(&board(), 110, 9));
    }

    #[test]
    fn an_edge_that_is_gone_is_said() {
        let mut board = board();
        board.lost("no edge answers at http://127.0.0.1:9900: Connection refused".into());
        board.press(Key::Right);
        let screen = screen(&board, 100, 9);
        assert!(screen.contains("lost: no edge answers") && screen.contains("127.0.0.1:9001"), "the last look stays: {screen}");
    }

    #[test]
    fn small_screens_do_not_panic() {
        for (width, height) in [(1, 1), (10, 2), (20, 3), (300, 1)] {
            screen(&board(), width, height);
            screen(&Board::default(), width, height);
        }
    }
}
