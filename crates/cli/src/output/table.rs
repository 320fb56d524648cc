//! Columns for people: aligned by what they show, coloured afterwards.

use super::paint::{Paint, Tone};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cell {
    pub text: String,
    pub tone: Tone,
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Cell {
        Cell { text: text.into(), tone: Tone::Plain }
    }
}

impl Cell {
    pub fn toned(text: impl Into<String>, tone: Tone) -> Cell {
        Cell { text: text.into(), tone }
    }
}

/// The header and the rows, two blanks between columns.
pub fn render(header: &[&str], rows: &[Vec<Cell>], paint: Paint) -> String {
    let header: Vec<Cell> = header.iter().map(|name| Cell::toned(name.to_uppercase(), Tone::Dim)).collect();
    let width = |column: usize| {
        let cells = std::iter::once(&header).chain(rows).filter_map(|row| row.get(column));
        cells.map(|cell| cell.text.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..header.len()).map(width).collect();
    let mut text = String::new();
    for row in std::iter::once(&header).chain(rows) {
        let last = row.iter().rposition(|cell| !cell.text.is_empty()).unwrap_or(0);
        for (column, cell) in row.iter().enumerate().take(last + 1) {
            text.push_str(&paint.tone(cell.tone, &cell.text));
            if column < last {
                let pad = widths[column] - cell.text.chars().count() + 2;
                text.extend(std::iter::repeat_n(' ', pad));
            }
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_align_without_blanks_at_the_end() {
        let rows = vec![vec!["j1".into(), "é".into()], vec!["j100".into(), "".into()]];
        assert_eq!(render(&["job", "name"], &rows, Paint::plain()), "JOB   NAME\nj1    é\nj100\n");
    }
}
