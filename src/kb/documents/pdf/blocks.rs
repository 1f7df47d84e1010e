//! Lines into blocks.
//!
//! The size in which most of the text is set is the *body*. A line clearly larger is a heading, and the sizes of all
//! headings, in order, are their levels. A short line of the body's size that is bold from end to end and stands apart is a
//! heading of the lowest level. Lines in letters of one width are code. Neighbouring lines with the same
//! number of cells, one below the other, are a table. All else is paragraphs and items, parted by distance.

use std::collections::HashMap;

use super::code::{Listing, Measures};
use super::lines::{Line, Page, median};
use crate::kb::documents::writer::{Writer, escape};

/// A heading is larger than the body by at least this.
const LARGER: f64 = 1.12;
/// Longest heading, in characters.
const MAX_HEADING_CHARS: usize = 160;
/// Longest heading that is bold and no larger than the body, in characters.
const MAX_BOLD_CHARS: usize = 90;
/// Bold strokes are thicker than the body's by at least this.
const BOLDER: f64 = 1.25;
/// Distance from the line above, in sizes, of a heading that is no larger than the body.
const APART: f64 = 1.4;
/// Lines farther apart than this, in sizes, are two paragraphs.
const PARAGRAPH_GAP: f64 = 1.75;
/// Upper and lower part of a page where its frame stands.
const EDGE: f64 = 0.1;

/// What was written beside the text.
pub(super) struct Written {
    pub page_lines: Vec<usize>,
    /// The first and largest heading.
    pub title: Option<String>,
}

pub(super) fn write(mut pages: Vec<Page>, out: &mut Writer) -> Written {
    drop_frames(&mut pages);
    let body = body_size(&pages);
    let setting = Setting { body, stroke: body_stroke(&pages, body), levels: levels(&pages, body) };
    let code_pitches: Vec<f32> =
        all_lines(&pages).filter(|line| line.is_surely_code).filter_map(|line| line.pitch).collect();
    let is_code = |line: &Line| {
        line.is_surely_code
            || line.pitch.is_some_and(|pitch| code_pitches.iter().any(|known| (known - pitch).abs() < 0.005))
    };
    pages.iter_mut().enumerate().for_each(|(number, page)| page.find_panels(number, is_code));
    let measures = Measures::of(&pages, is_code);
    let mut begun = Begun::default();
    let (mut title, mut largest) = (None, 0);
    let (mut paragraph, mut listing) = (Paragraph::default(), Listing::default());
    for (number, Page { lines, .. }) in pages.iter().enumerate() {
        paragraph.turn_page(out);
        // A paragraph that goes on over the page's end belongs to the page where it began.
        begun.on_page = false;
        let mut at = 0;
        if listing.is_open() {
            let code = lines.iter().take_while(|line| is_code(line)).count();
            if listing.turns_page(number, &lines[..code], &measures) {
                begun.page(out);
                at = 1;
            } else {
                listing.end(out, &mut begun.lines);
            }
        }
        while at < lines.len() {
            let line = &lines[at];
            let code = lines[at..].iter().take_while(|line| is_code(line)).count();
            if code > 0 && (listing.is_open() || lines[at..at + code].iter().any(|line| line.is_surely_code)) {
                paragraph.end(out);
                let end = at + code;
                while at < end {
                    let taken = listing.take(&lines[at..end], &measures);
                    at += taken;
                    if taken == 0 {
                        listing.end(out, &mut begun.lines);
                    }
                    begun.page(out);
                }
                continue;
            }
            listing.end(out, &mut begun.lines);
            let rows = table_rows(&lines[at..]);
            if rows > 0 {
                paragraph.end(out);
                begun.page(out);
                out.leave_lists(0);
                let cells = |line: &Line| line.segments.iter().map(|s| escape(&s.text)).collect::<Vec<_>>();
                out.table(&lines[at..at + rows].iter().map(cells).collect::<Vec<_>>());
                at += rows;
                continue;
            }
            let above = at.checked_sub(1).map(|above| &lines[above]);
            if let Some((level, more)) = setting.heading(above, &lines[at..], &is_code) {
                paragraph.end(out);
                begun.page(out);
                let text = lines[at..at + more].iter().map(Line::text).collect::<Vec<_>>().join(" ");
                if level < largest || largest == 0 {
                    largest = level;
                    title = Some(text.clone());
                }
                out.heading(level, &text);
                at += more;
                continue;
            }
            if paragraph.ends_before(line) {
                paragraph.end(out);
            }
            if paragraph.text.is_empty() {
                begun.page(out);
            }
            paragraph.add(line);
            at += 1;
        }
        if !begun.on_page {
            paragraph.end(out);
            begun.page(out);
        }
    }
    listing.end(out, &mut begun.lines);
    paragraph.end(out);
    Written { page_lines: begun.lines, title }
}

/// On which lines of the text pages begin.
#[derive(Default)]
struct Begun {
    lines: Vec<usize>,
    /// True once the page at hand has begun.
    on_page: bool,
}

impl Begun {
    fn page(&mut self, out: &Writer) {
        if !std::mem::replace(&mut self.on_page, true) {
            self.lines.push(out.next_line());
        }
    }
}

fn all_lines(pages: &[Page]) -> impl Iterator<Item = &Line> {
    pages.iter().flat_map(|page| &page.lines)
}

/// How the document is set.
struct Setting {
    /// The size of most of its text, and how thick that text's strokes are; 0 where it is not known.
    body: f64,
    stroke: f64,
    /// Sizes of headings, the largest first.
    levels: Vec<i64>,
}

impl Setting {
    /// Level of the heading that begins here, if one does, and how many lines it takes: up to three.
    fn heading(&self, above: Option<&Line>, lines: &[Line], is_code: impl Fn(&Line) -> bool) -> Option<(usize, usize)> {
        let first = lines.first()?;
        if let Some(level) = self.level_of(first) {
            let goes_on = |pair: &[Line]| {
                let (above, below) = (&pair[0], &pair[1]);
                let near = (0.0..=1.6 * above.size).contains(&(below.y - above.y));
                near && (below.size - above.size).abs() < 0.2 && self.level_of(below).is_some()
            };
            return Some((level, 1 + lines.windows(2).take(2).take_while(|pair| goes_on(pair)).count()));
        }
        let apart = above.is_none_or(|above| !(0.0..APART * first.size).contains(&(first.y - above.y)));
        let bold = lines.iter().take(3).take_while(|line| self.is_bold(line) && !is_code(line)).count();
        // What is bold for more than two lines is no heading, and a heading has something below it.
        let below = lines.get(bold)?;
        let closed = lines[..bold].iter().any(|line| line.text().ends_with(['.', ',', ';', ':', '!']));
        let heads = (1..=2).contains(&bold) && apart && !closed && below.y > first.y && below.segments.len() == 1;
        heads.then(|| ((self.levels.len() + 1).min(5), bold))
    }

    fn level_of(&self, line: &Line) -> Option<usize> {
        if !could_be_heading(line, self.body) {
            return None;
        }
        let size = step(line.size);
        self.levels.iter().position(|level| (level - size).abs() <= 1).map(|at| (at + 1).min(5))
    }

    /// True for a short line of the body's size whose letters are all bold.
    fn is_bold(&self, line: &Line) -> bool {
        let text = line.text();
        let letters = text.chars().filter(|c| c.is_alphabetic()).count();
        self.stroke > 0.0
            && line.stroke > BOLDER * self.stroke
            && line.size > 0.95 * self.body
            && line.segments.len() == 1
            && letters >= 2
            && text.chars().count() <= MAX_BOLD_CHARS
            && !line.is_surely_code
            && !matches!(marker(text.trim()), Some((None, _)))
    }
}

/// How thick the strokes of most of the text are.
fn body_stroke(pages: &[Page], body: f64) -> f64 {
    let of_body = |line: &&Line| step(line.size) == step(body) && !line.is_surely_code && line.stroke > 0.0;
    let by_letter = |line: &Line| std::iter::repeat_n(line.stroke, line.text().len().min(200));
    median(all_lines(pages).filter(of_body).flat_map(by_letter))
}

/// Takes away what is repeated at the edges of the pages: running titles, page numbers.
fn drop_frames(pages: &mut [Page]) {
    let key = |line: &Line| {
        let text: String = line.text().chars().map(|c| if c.is_ascii_digit() { '#' } else { c }).collect();
        let text = text.replace("##", "#").replace("##", "#");
        (text, (line.y / 4.0).round() as i64)
    };
    let is_edge = |line: &Line| line.height_share < EDGE || line.height_share > 1.0 - EDGE;
    let mut seen: HashMap<(String, i64), usize> = HashMap::new();
    for page in pages.iter() {
        let mut on_page: Vec<_> = page.lines.iter().filter(|line| is_edge(line)).map(key).collect();
        on_page.sort();
        on_page.dedup();
        on_page.into_iter().for_each(|key| *seen.entry(key).or_default() += 1);
    }
    // Left and right pages have frames of their own. On two pages alone, what is repeated may also be a heading.
    let needed = (pages.len() * 2 / 5).max(if pages.len() == 2 { 2 } else { 3 });
    let largest = if pages.len() == 2 { body_size(pages) * LARGER } else { f64::INFINITY };
    let bare_number = |line: &Line| {
        let text = line.text();
        text.len() <= 5
            && text.chars().any(|c| c.is_ascii_digit())
            && text.chars().all(|c| c.is_ascii_digit() || "-–/ ".contains(c))
    };
    let many = pages.len() > 1;
    for page in pages {
        page.lines.retain(|line| {
            let is_repeated = seen.get(&key(line)).is_some_and(|times| *times >= needed) && line.size < largest;
            !is_edge(line) || !(is_repeated || many && bare_number(line))
        });
    }
}

/// Sizes are compared in halves of a point.
fn step(size: f64) -> i64 {
    (size * 2.0).round() as i64
}

fn body_size(pages: &[Page]) -> f64 {
    let mut chars: HashMap<i64, usize> = HashMap::new();
    for line in all_lines(pages).filter(|line| !line.is_surely_code) {
        *chars.entry(step(line.size)).or_default() += line.text().chars().count();
    }
    let most = chars.into_iter().max_by_key(|(size, chars)| (*chars, std::cmp::Reverse(*size)));
    most.map_or(10.0, |(size, _)| size as f64 / 2.0)
}

/// Sizes of headings, the largest first.
fn levels(pages: &[Page], body: f64) -> Vec<i64> {
    let mut sizes: Vec<i64> =
        all_lines(pages).filter(|line| could_be_heading(line, body)).map(|line| step(line.size)).collect();
    sizes.sort_unstable_by(|a, b| b.cmp(a));
    sizes.dedup();
    // Sizes next to each other are one level.
    sizes.dedup_by(|smaller, larger| *larger - *smaller <= 1);
    sizes
}

fn could_be_heading(line: &Line, body: f64) -> bool {
    let text = line.text();
    line.size >= LARGER * body
        && text.chars().count() <= MAX_HEADING_CHARS
        && text.chars().any(char::is_alphabetic)
        && !line.is_surely_code
}

/// How many lines from here are rows of one table; 0 where none begins.
fn table_rows(lines: &[Line]) -> usize {
    let Some(first) = lines.first().filter(|line| line.segments.len() >= 2) else { return 0 };
    let fits = |line: &Line, before: &Line| {
        let near = line.y > before.y && line.y - before.y < 3.5 * first.size;
        let columns = line.segments.iter().zip(&first.segments);
        // A cell stands below the one above it: at its left edge, at its right, or around its middle.
        let aligned = columns.clone().all(|(a, b)| {
            let edges = (a.x0 - b.x0).abs().min((a.x1 - b.x1).abs());
            edges.min(((a.x0 + a.x1) - (b.x0 + b.x1)).abs() / 2.0) < 1.2 * first.size
        });
        near && line.segments.len() == first.segments.len() && aligned
    };
    let rows = 1 + lines.windows(2).take_while(|pair| fits(&pair[1], &pair[0])).count();
    let is_list = first.segments.len() == 2 && marker(&first.segments[0].text).is_some_and(|(_, rest)| rest.is_empty());
    if rows >= 2 && !is_list { rows } else { 0 }
}

/// The marker of an item at the beginning of a line, and what follows: `Some(None)` for a bullet.
fn marker(text: &str) -> Option<(Option<usize>, &str)> {
    let mut chars = text.chars();
    let first = chars.next()?;
    if "•◦▪●○■‣⁃∙·–*-".contains(first) {
        let rest = chars.as_str();
        let sure = "•◦▪●○■‣⁃∙".contains(first);
        return ((rest.is_empty() && sure) || rest.starts_with(' ') || sure).then(|| (None, rest.trim_start()));
    }
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let rest = text[digits..].strip_prefix(['.', ')']).filter(|_| (1..=3).contains(&digits))?;
    (rest.is_empty() || rest.starts_with(' ')).then(|| (text[..digits].parse().ok(), rest.trim_start()))
}

/// The paragraph or item under way.
#[derive(Default)]
struct Paragraph {
    text: String,
    /// `Some(number)` for an item.
    item: Option<Option<usize>>,
    /// Baseline and size of its last line on this page.
    last: Option<(f64, f64)>,
}

impl Paragraph {
    /// On a new page distances say nothing; only an open sentence goes on.
    fn turn_page(&mut self, out: &mut Writer) {
        self.last = None;
        if self.is_closed() {
            self.end(out);
        }
        out.leave_lists(0);
    }

    /// True where the line begins a paragraph or item of its own.
    fn ends_before(&self, line: &Line) -> bool {
        let far = self.last.is_some_and(|(y, size)| {
            let gap = line.y - y;
            let other_column = gap < -2.0 * size && self.is_closed();
            (step(line.size) - step(size)).abs() > 2 || gap > PARAGRAPH_GAP * size || other_column
        });
        far || marker(line.text().trim()).is_some()
    }

    fn add(&mut self, line: &Line) {
        let text = line.text();
        let text = text.trim();
        let text = match marker(text).filter(|_| self.text.is_empty()) {
            Some((number, rest)) => {
                self.item = Some(number);
                rest
            }
            None => text,
        };
        self.join(text);
        self.last = Some((line.y, line.size));
    }

    /// True where the text so far ends with a sentence.
    fn is_closed(&self) -> bool {
        self.text.trim_end().ends_with(['.', '!', '?', ':', ';'])
    }

    /// Adds a line; a word that was parted at the line's end is whole again.
    fn join(&mut self, text: &str) {
        let goes_on = text.starts_with(char::is_lowercase);
        let mut before = self.text.chars().rev();
        match (before.next(), before.next()) {
            (Some('\u{ad}'), _) => drop(self.text.pop()),
            (Some('-' | '\u{2010}'), Some(letter)) if letter.is_alphabetic() && goes_on => drop(self.text.pop()),
            (None, _) => {}
            _ => self.text.push(' '),
        }
        self.text.push_str(text);
    }

    fn end(&mut self, out: &mut Writer) {
        let ended = std::mem::take(self);
        if ended.text.trim().is_empty() {
            return;
        }
        match ended.item {
            Some(number) => out.item(0, number),
            None => out.leave_lists(0),
        }
        out.paragraph(&escape(&ended.text.replace('\u{ad}', "")));
    }
}

#[cfg(test)]
mod tests {
    use super::super::lines::tests::{set, typed};
    use super::super::lines::{Glyph, Page};
    use super::*;

    fn markdown(pages: Vec<Vec<Glyph>>) -> (String, Written) {
        let mut out = Writer::new(1 << 20);
        let written = write(pages.into_iter().map(|page| Page::of(page, Vec::new(), 800.0)).collect(), &mut out);
        (out.finish().trim().to_string(), written)
    }

    #[test]
    fn headings_paragraphs_items_and_code_are_told_apart() {
        let page = [
            set("Setting up", 50.0, 100.0, 20.0),
            set("Open the settings and choose a lan-", 50.0, 130.0, 10.0),
            set("guage for the page.", 50.0, 142.0, 10.0),
            set("• first thing", 60.0, 165.0, 10.0),
            set("• second thing", 60.0, 178.0, 10.0),
            typed("def run(name):", 60.0, 210.0, 9.0, 0.6),
            typed("return name", 60.0 + 4.0 * 5.4, 220.0, 9.0, 0.6),
            typed("}", 60.0, 240.0, 9.0, 0.6),
            set("After the code.", 50.0, 280.0, 10.0),
        ];
        let (text, written) = markdown(vec![page.concat()]);
        let expected = "# Setting up\n\nOpen the settings and choose a language for the page.\n\n- first thing\n\
                        - second thing\n\n```\ndef run(name):\n    return name\n\n}\n```\n\nAfter the code.";
        assert_eq!(text, expected);
        assert_eq!(written.title.as_deref(), Some("Setting up"));
    }

    #[test]
    fn a_bold_line_of_the_texts_size_that_stands_apart_is_a_heading() {
        let bold = |mut glyphs: Vec<Glyph>| {
            glyphs.iter_mut().for_each(|glyph| glyph.stroke = 90.0);
            glyphs
        };
        let page = [
            set("Setting up", 50.0, 100.0, 20.0),
            set("Open the settings and choose the language of the page there.", 50.0, 130.0, 10.0),
            bold(set("On a phone", 50.0, 155.0, 10.0)),
            set("Open the menu first.", 50.0, 170.0, 10.0),
            bold(set("Never share the key.", 50.0, 195.0, 10.0)),
            set("It opens all doors.", 50.0, 207.0, 10.0),
            bold(set("Note", 50.0, 232.0, 10.0)),
            set(" that it may take a while, whatever the page says about it", 71.0, 232.0, 10.0),
            set("to those who wait.", 50.0, 244.0, 10.0),
            bold(set("A warning that is set in bold type from its first", 50.0, 270.0, 10.0)),
            bold(set("letter on and goes on for more than two lines", 50.0, 282.0, 10.0)),
            bold(set("is no heading", 50.0, 294.0, 10.0)),
            set("and ends here.", 50.0, 306.0, 10.0),
        ];
        let (text, _) = markdown(vec![page.concat()]);
        let headings: Vec<&str> = text.lines().filter(|line| line.starts_with('#')).collect();
        assert_eq!(headings, ["# Setting up", "## On a phone"], "{text}");
    }

    #[test]
    fn cells_below_each_other_are_a_table() {
        let row = |y, a: &str, b: &str| [set(a, 50.0, y, 10.0), set(b, 300.0, y, 10.0)].concat();
        let (text, _) = markdown(vec![[row(100.0, "Plan", "Price"), row(115.0, "Basic", "10 EUR")].concat()]);
        assert_eq!(text, "| Plan | Price |\n|---|---|\n| Basic | 10 EUR |");
    }

    #[test]
    fn the_frame_of_pages_goes_and_their_lines_are_known() {
        let page = |n: usize| {
            let number = set(&format!("Manual page {n}"), 50.0, 780.0, 8.0);
            [set(&format!("This is what stands on the page {n} of it."), 50.0, 200.0, 10.0), number].concat()
        };
        let (text, written) = markdown((1..=4).map(page).collect());
        assert!(!text.contains("Manual"), "{text}");
        assert_eq!(written.page_lines.len(), 4);
        assert_eq!(text.lines().nth(written.page_lines[2] - 1), Some("This is what stands on the page 3 of it."));
    }
}
