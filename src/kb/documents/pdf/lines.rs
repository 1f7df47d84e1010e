//! Letters into lines.
//!
//! Letters come in the order in which they were drawn, which is nearly always the order of reading, columns included.
//! A *segment* is a run of them on one baseline without a wide gap; a *line* is one or more segments beside each other.

use hayro_interpret::kurbo::Rect;

/// A gap wider than this, in sizes, is a space.
const SPACE: f64 = 0.18;
/// A gap wider than this, in sizes, parts two segments: the cells of a table.
const PART: f64 = 1.1;
/// Baselines nearer than this, in sizes, are one.
const SAME_LINE: f64 = 0.35;

/// A letter (or a ligature) on a page; lengths in points, from the upper left corner.
#[derive(Debug, Clone)]
pub(super) struct Glyph {
    pub x: f64,
    pub y: f64,
    pub size: f64,
    pub width: f64,
    /// Its width in sizes.
    pub advance: f32,
    /// How thick its strokes are, in thousandths of its size; 0 where that is not known.
    pub stroke: f32,
    pub text: String,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Segment {
    pub x0: f64,
    pub x1: f64,
    pub text: String,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Line {
    pub y: f64,
    pub size: f64,
    pub segments: Vec<Segment>,
    /// Width of all its letters in sizes, where it is one.
    pub pitch: Option<f32>,
    /// How far apart they stand, in points.
    pub cell: f64,
    /// True where the letters are such that only a font for code gives them one width.
    pub is_surely_code: bool,
    /// The line on a grid of letters, without what stands before its first.
    pub grid: String,
    /// How thick the strokes of its letters are, in thousandths of their size; 0 where that is not known.
    pub stroke: f64,
    /// Share of the page's height at which it stands.
    pub height_share: f64,
    /// Page and number of the panel of code that it stands in.
    pub panel: Option<(usize, usize)>,
}

impl Line {
    pub fn x0(&self) -> f64 {
        self.segments.first().map_or(0.0, |s| s.x0)
    }

    pub fn x1(&self) -> f64 {
        self.segments.last().map_or(0.0, |s| s.x1)
    }

    pub fn text(&self) -> String {
        self.segments.iter().map(|s| s.text.as_str()).collect::<Vec<_>>().join(" ")
    }
}

/// What stands on a page.
pub(super) struct Page {
    pub lines: Vec<Line>,
    /// Areas that are painted or framed.
    panels: Vec<Rect>,
}

impl Page {
    pub fn of(glyphs: Vec<Glyph>, panels: Vec<Rect>, height: f64) -> Self {
        Self { lines: of(glyphs, height), panels: merged(panels) }
    }

    /// Says of each line of code in which panel it stands. Only panels that hold nothing else count, of those around each
    /// other the largest.
    pub fn find_panels(&mut self, page: usize, is_code: impl Fn(&Line) -> bool) {
        self.panels.sort_by(|a, b| b.area().total_cmp(&a.area()));
        for (number, panel) in self.panels.iter().enumerate() {
            let holds =
                |line: &Line| panel.y0 < line.y && line.y < panel.y1 && line.x0() < panel.x1 && line.x1() > panel.x0;
            if self.lines.iter().filter(|line| holds(line)).all(&is_code) {
                let inside = self.lines.iter_mut().filter(|line| line.panel.is_none() && holds(line));
                inside.for_each(|line| line.panel = Some((page, number)));
            }
        }
    }
}

/// Panels that touch, one below the other, are one: some programs paint line by line.
fn merged(mut panels: Vec<Rect>) -> Vec<Rect> {
    let side = |x: f64| (x * 2.0).round() as i64;
    panels.sort_by(|a, b| (side(a.x0), side(a.x1)).cmp(&(side(b.x0), side(b.x1))).then(a.y0.total_cmp(&b.y0)));
    panels.dedup_by(|below, above| {
        let touch = (side(below.x0), side(below.x1)) == (side(above.x0), side(above.x1)) && below.y0 <= above.y1 + 0.75;
        if touch {
            above.y1 = above.y1.max(below.y1);
        }
        touch
    });
    panels
}

/// The lines of a page, in the order of reading.
fn of(glyphs: Vec<Glyph>, page_height: f64) -> Vec<Line> {
    let mut rows: Vec<Vec<Glyph>> = Vec::new();
    for glyph in glyphs {
        match rows.last_mut() {
            Some(row) if continues(row, &glyph) => row.push(glyph),
            _ => rows.push(vec![glyph]),
        }
    }
    rows.retain(|row| row.iter().any(|g| g.text.chars().any(|c| !c.is_whitespace() && !c.is_control())));
    let mut lines: Vec<Line> = rows.into_iter().filter_map(|row| line(row, page_height)).collect();
    // Pages whose text was drawn in no order are read from top to bottom.
    let upward = lines.windows(2).filter(|pair| pair[1].y < pair[0].y - pair[0].size).count();
    if lines.len() > 8 && upward * 4 > lines.len() {
        lines.sort_by(|a, b| a.y.total_cmp(&b.y).then(a.x0().total_cmp(&b.x0())));
        lines = joined(lines);
    }
    lines
}

/// True where a letter goes on with the row: on its baseline, behind its last letter.
fn continues(row: &[Glyph], glyph: &Glyph) -> bool {
    let Some(last) = row.last() else { return false };
    let size = last.size.max(glyph.size);
    // Raised and lowered letters are smaller.
    let reach = if (last.size - glyph.size).abs() > 0.1 * size { 0.6 } else { SAME_LINE };
    (glyph.y - last.y).abs() < reach * size && glyph.x > last.x - 0.6 * size
}

/// Lines on one baseline that were drawn apart become one.
fn joined(lines: Vec<Line>) -> Vec<Line> {
    let mut out: Vec<Line> = Vec::new();
    for line in lines {
        match out.last_mut() {
            Some(last) if (last.y - line.y).abs() < SAME_LINE * last.size && line.x0() >= last.x1() => {
                last.segments.extend(line.segments);
                last.grid.push(' ');
                last.grid.push_str(&line.grid);
                last.is_surely_code &= line.is_surely_code;
                last.stroke = last.stroke.min(line.stroke);
                last.pitch = last.pitch.filter(|pitch| line.pitch.is_some_and(|other| (other - pitch).abs() < 0.01));
            }
            _ => out.push(line),
        }
    }
    out
}

fn line(mut row: Vec<Glyph>, page_height: f64) -> Option<Line> {
    // Bold type is at times drawn by drawing twice.
    row.dedup_by(|b, a| a.text == b.text && (a.x - b.x).abs() < 0.12 * a.size && (a.y - b.y).abs() < 0.12 * a.size);
    let visible = |g: &&Glyph| g.text.chars().any(|c| !c.is_whitespace() && !c.is_control());
    let first = row.iter().find(visible)?.clone();
    let size = median(row.iter().filter(visible).map(|g| g.size));
    let pitch = pitch(row.iter().filter(visible).map(|g| g.advance));
    let letters: std::collections::BTreeSet<&str> =
        row.iter().map(|g| g.text.as_str()).filter(|t| t.chars().all(char::is_alphabetic)).collect();
    let is_even = row.iter().filter(visible).all(|g| (g.advance - first.advance).abs() < 0.005);
    let is_surely_code = is_even && letters.len() >= 4;
    let mut segments: Vec<Segment> = Vec::new();
    for glyph in &row {
        let text = glyph.text.replace(|c: char| c.is_control(), "");
        if text.trim().is_empty() {
            if let Some(last) = segments.last_mut().filter(|last| !last.text.ends_with(' ')) {
                last.text.push(' ');
            }
            continue;
        }
        match segments.last_mut() {
            Some(last) if glyph.x - last.x1 < PART * size => {
                if glyph.x - last.x1 > SPACE * size && !last.text.ends_with(' ') {
                    last.text.push(' ');
                }
                last.text.push_str(&text);
                last.x1 = last.x1.max(glyph.x + glyph.width);
            }
            _ => segments.push(Segment { x0: glyph.x, x1: glyph.x + glyph.width, text }),
        }
    }
    segments.iter_mut().for_each(|s| s.text = s.text.trim().to_string());
    segments.retain(|s| !s.text.is_empty());
    let (cell, grid) = match pitch {
        Some(pitch) if pitch > 0.0 => {
            let letters: Vec<&Glyph> = row.iter().filter(visible).collect();
            on_grid(&letters, f64::from(pitch) * size)
        }
        _ => (0.0, String::new()),
    };
    let height_share = if page_height > 0.0 { first.y / page_height } else { 0.5 };
    let stroke = stroke(&row);
    Some(Line { y: first.y, size, segments, pitch, cell, is_surely_code, grid, stroke, height_share, panel: None })
}

/// How thick the strokes of nearly all letters are: a line is bold only where it is bold from end to end.
fn stroke(row: &[Glyph]) -> f64 {
    let letters = row.iter().filter(|g| g.text.chars().all(char::is_alphabetic));
    let mut strokes: Vec<f64> = letters.map(|g| f64::from(g.stroke)).collect();
    strokes.sort_by(f64::total_cmp);
    strokes.get(strokes.len() / 6).copied().unwrap_or(0.0)
}

/// The width of all letters, in sizes, where it is one. Of many letters some may be wider: a font for code does not have them
/// all.
fn pitch(advances: impl Iterator<Item = f32> + Clone) -> Option<f32> {
    let usual = median(advances.clone().map(f64::from)) as f32;
    let (mut all, mut others) = (0, 0);
    for advance in advances {
        all += 1;
        others += usize::from((advance - usual).abs() >= 0.005);
    }
    (others == 0 || all >= 8 && others * 6 <= all).then_some(usual)
}

/// Letters of this width on a grid, and how far apart its columns are. Some programs (LaTeX's listings) set letters farther
/// apart than they are wide, and in words not evenly; so each is placed by the one before it.
fn on_grid(letters: &[&Glyph], width: f64) -> (f64, String) {
    let steps: Vec<f64> = letters.windows(2).map(|pair| pair[1].x - pair[0].x).collect();
    let near: Vec<f64> = steps.iter().copied().filter(|step| (0.95 * width..1.4 * width).contains(step)).collect();
    let mut cell = if near.len() >= 3 { median(near.into_iter()) } else { width };
    let columns = |cell: f64| steps.iter().map(move |step| (step / cell).round().clamp(1.0, 2000.0) as usize);
    let all: usize = columns(cell).sum();
    let whole = steps.iter().sum::<f64>() / all.max(1) as f64;
    if all >= 3 && (0.9 * cell..1.15 * cell).contains(&whole) {
        cell = whole;
    }
    let mut grid = letters.first().map_or(String::new(), |first| first.text.clone());
    for (columns, letter) in columns(cell).zip(&letters[1..]) {
        grid.push_str(&" ".repeat(columns - 1));
        grid.push_str(&letter.text);
    }
    (cell, grid)
}

pub(super) fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Letters of a text at a place, all `advance` sizes wide.
    pub fn typed(text: &str, x: f64, y: f64, size: f64, advance: f32) -> Vec<Glyph> {
        let width = f64::from(advance) * size;
        let glyph = |(at, c): (usize, char)| Glyph {
            x: x + at as f64 * width,
            y,
            size,
            width,
            advance,
            stroke: 60.0,
            text: c.into(),
        };
        text.chars().enumerate().filter(|(_, c)| *c != ' ').map(glyph).collect()
    }

    /// Letters of unlike widths, as fonts for reading have.
    pub fn set(text: &str, x: f64, y: f64, size: f64) -> Vec<Glyph> {
        let mut glyphs = typed(text, x, y, size, 0.5);
        glyphs.iter_mut().step_by(2).for_each(|g| g.advance = 0.45);
        glyphs
    }

    #[test]
    fn letters_become_words_lines_and_cells() {
        let mut glyphs = typed("two words", 10.0, 20.0, 10.0, 0.5);
        glyphs.extend(typed("far", 200.0, 20.0, 10.0, 0.5));
        glyphs.extend(typed("below", 10.0, 34.0, 10.0, 0.5));
        let lines = of(glyphs, 800.0);
        let cells: Vec<&str> = lines[0].segments.iter().map(|s| s.text.as_str()).collect();
        assert_eq!(cells, ["two words", "far"]);
        assert_eq!(lines[1].text(), "below");
    }

    #[test]
    fn a_line_of_code_keeps_its_columns() {
        let lines = of(typed("if x:   return_y", 10.0, 20.0, 10.0, 0.6), 800.0);
        assert_eq!(lines[0].grid, "if x:   return_y");
        assert!(lines[0].is_surely_code);
    }

    #[test]
    fn code_whose_letters_stand_wider_than_they_are_keeps_its_columns() {
        // Words of 6 points a letter, in letters of 5, spread over their room.
        let mut glyphs = Vec::new();
        for (column, word) in [(0, "install"), (8, "--all"), (16, "now")] {
            let len = word.len() as f64;
            let spread = len / (len + 1.0);
            for (at, mut glyph) in typed(word, 0.0, 20.0, 10.0, 0.5).into_iter().enumerate() {
                glyph.x = 10.0 + 6.0 * column as f64 + spread + at as f64 * (5.0 + spread);
                glyphs.push(glyph);
            }
        }
        assert_eq!(of(glyphs, 800.0)[0].grid, "install --all   now");
    }
}
