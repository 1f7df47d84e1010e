//! Lines of code into listings.
//!
//! Within a listing baselines stand whole *leadings* apart: an empty line is one more. What is set between two listings
//! (space, padding) is hardly ever a whole number of them, and a painted panel parts them for certain. A listing that
//! fills a page to its end goes on at the top of the next one, in the same letters.

use std::collections::HashMap;

use super::lines::{Line, Page, median};
use crate::kb::documents::writer::Writer;

/// Gaps are whole leadings to within this.
const OFF: f64 = 0.13;
/// Most leadings between two lines of a listing.
const MAX_STEP: usize = 6;
/// A leading wider than this, in sizes, is more than one.
const WIDE: f64 = 1.9;
/// What most programs set, in sizes.
const USUAL: f64 = 1.25;

/// What code in this document has in common.
pub(super) struct Measures {
    /// Smallest distance between baselines, by size.
    leadings: HashMap<i64, f64>,
    /// The lowest baseline of all pages.
    bottom: f64,
    /// The highest baseline of pages that begin with code, by size; where at least two do.
    tops: HashMap<i64, f64>,
}

fn key(line: &Line) -> i64 {
    (line.size * 4.0).round() as i64
}

fn are_alike(a: &Line, b: &Line) -> bool {
    let pitches = a.pitch.zip(b.pitch).is_none_or(|(a, b)| (a - b).abs() < 0.005);
    pitches && (a.size - b.size).abs() < 0.2
}

/// Distances between neighbours, but not from one panel to another.
fn gaps(lines: &[Line]) -> impl Iterator<Item = (&Line, f64)> {
    let near = lines.windows(2).filter(|pair| are_alike(&pair[0], &pair[1]) && pair[0].panel == pair[1].panel);
    near.map(|pair| (&pair[0], pair[1].y - pair[0].y)).filter(|(line, gap)| *gap > 0.5 * line.size)
}

impl Measures {
    pub(super) fn of(pages: &[Page], is_code: impl Fn(&Line) -> bool) -> Self {
        let (mut leadings, mut firsts) = (HashMap::new(), HashMap::<i64, Vec<f64>>::new());
        for page in pages {
            for run in page.lines.split(|line| !is_code(line)) {
                for (line, gap) in gaps(run) {
                    let least = leadings.entry(key(line)).or_insert(gap);
                    *least = gap.min(*least);
                }
            }
            if let Some(first) = page.lines.first().filter(|line| is_code(line)) {
                firsts.entry(key(first)).or_default().push(first.y);
            }
        }
        let bottom = pages.iter().flat_map(|page| &page.lines).map(|line| line.y).fold(0.0, f64::max);
        let highest =
            |(key, all): (i64, Vec<f64>)| (all.len() > 1).then(|| (key, all.into_iter().fold(f64::INFINITY, f64::min)));
        Self { leadings, bottom, tops: firsts.into_iter().filter_map(highest).collect() }
    }

    /// The leading of neighbouring lines of code, from the first's size on.
    fn leading(&self, lines: &[Line]) -> f64 {
        let Some(first) = lines.first() else { return 1.0 };
        let known = self.leadings.get(&key(first)).copied().filter(|known| *known < WIDE * first.size);
        let of_run: Vec<f64> = gaps(lines).map(|(_, gap)| gap).collect();
        let least = of_run.iter().copied().fold(f64::INFINITY, f64::min);
        match known {
            // A listing may be set wider than others in its size.
            Some(known) if least > known && least < 1.7 * known => least,
            Some(known) => known,
            // Whole empty lines everywhere.
            None if of_run.len() > 1 => least / (least / (USUAL * first.size)).round().max(1.0),
            None => USUAL * first.size,
        }
    }

    /// How many leadings `below` stands under `above`; `None` where it begins another listing.
    fn step(&self, above: &Line, below: &Line, leading: f64) -> Option<usize> {
        let gap = below.y - above.y;
        if gap <= 0.0 {
            return Some(1);
        }
        let count = gap / leading;
        let whole = count.round().max(1.0);
        let is_one = (count - 1.0).abs() <= OFF;
        if above.panel.is_some() && above.panel == below.panel {
            return Some((whole as usize).min(MAX_STEP));
        }
        let parted = !are_alike(above, below) || (above.panel != below.panel && !is_one);
        (!parted && (count - whole).abs() <= OFF && whole <= MAX_STEP as f64).then_some(whole as usize)
    }

    /// The same over the end of a page, for the lines at the top of the next one.
    fn step_over_page(&self, above: &Line, lines: &[Line], left: f64) -> Option<usize> {
        let first = lines.first()?;
        let leading = self.leading(lines);
        let room = (self.bottom - above.y) / leading;
        if !are_alike(above, first) || room > 3.0 || first.x0() < left - 0.5 * first.cell {
            return None;
        }
        // Programs that leave no line of a listing alone break it earlier than they must.
        let below = if lines.len() > 2 { (room + OFF).floor().max(0.0) as usize } else { 0 };
        let down = self.tops.get(&key(first)).map_or(0.0, |top| (first.y - top) / leading);
        let top = if (down - down.round()).abs() <= OFF && down < 4.0 { down.round().max(0.0) as usize } else { 0 };
        Some(1 + below + top)
    }
}

/// The listing under way.
#[derive(Default)]
pub(super) struct Listing {
    /// Each line with the number of leadings that it stands below the one before.
    lines: Vec<(usize, Line)>,
    /// Pages that begin within: which, and at which line of the listing.
    turns: Vec<(usize, usize)>,
}

impl Listing {
    pub(super) fn is_open(&self) -> bool {
        !self.lines.is_empty()
    }

    fn left(&self) -> f64 {
        self.lines.iter().map(|(_, line)| line.x0()).fold(f64::INFINITY, f64::min)
    }

    /// True where the lines of code at the top of page `page` go on with it; the first is taken in.
    pub(super) fn turns_page(&mut self, page: usize, lines: &[Line], measures: &Measures) -> bool {
        let Some((_, last)) = self.lines.last() else { return false };
        let Some(step) = measures.step_over_page(last, lines, self.left()) else { return false };
        let before: usize = self.lines.iter().map(|(step, _)| *step).sum();
        self.turns.push((page, before + step));
        self.lines.push((step, lines[0].clone()));
        true
    }

    /// Takes in the first of some neighbouring lines of code that go on with it, and gives how many those are.
    pub(super) fn take(&mut self, lines: &[Line], measures: &Measures) -> usize {
        let leading = measures.leading(lines);
        for (taken, line) in lines.iter().enumerate() {
            let step = match self.lines.last() {
                Some((_, above)) => measures.step(above, line, leading),
                None => Some(0),
            };
            match step {
                Some(step) => self.lines.push((step, line.clone())),
                None => return taken,
            }
        }
        lines.len()
    }

    /// Writes it on its grid, and the lines on which pages begin into `page_lines`.
    pub(super) fn end(&mut self, out: &mut Writer, page_lines: &mut [usize]) {
        if !self.is_open() {
            return;
        }
        let Self { lines, turns } = std::mem::take(self);
        let left = lines.iter().map(|(_, line)| line.x0()).fold(f64::INFINITY, f64::min);
        // Short lines do not show how far apart letters stand.
        let long = lines.iter().map(|(_, line)| line).filter(|line| line.grid.len() > 4);
        let cell = median(long.map(|line| line.cell).chain(lines.first().map(|(_, line)| line.cell)));
        let mut text = String::new();
        for (step, line) in &lines {
            text.push_str(&"\n".repeat(*step));
            let indent = if cell > 0.0 { ((line.x0() - left) / cell).round().max(0.0) as usize } else { 0 };
            text.push_str(&" ".repeat(indent.min(200)));
            text.push_str(if line.grid.is_empty() {
                line.segments.first().map_or("", |s| &s.text)
            } else {
                &line.grid
            });
        }
        out.leave_lists(0);
        // The fence stands before the first line.
        let first = out.next_line() + 1;
        for (page, at) in turns {
            if let Some(line) = page_lines.get_mut(page) {
                *line = first + at;
            }
        }
        out.code("", &text);
    }
}

#[cfg(test)]
mod tests {
    use hayro_interpret::kurbo::Rect;

    use super::super::blocks;
    use super::super::lines::Glyph;
    use super::super::lines::tests::{set, typed};
    use super::*;

    /// Lines of code in 8 points from a baseline on, the leading being 10; empty ones take their place.
    fn code(text: &str, y: f64) -> Vec<Glyph> {
        let line = |(at, text): (usize, &str)| typed(text, 60.0, y + 10.0 * at as f64, 8.0, 0.6);
        text.split('\n').enumerate().flat_map(line).collect()
    }

    fn read(pages: Vec<(Vec<Glyph>, Vec<Rect>)>) -> (Vec<String>, Vec<usize>, String) {
        let mut out = Writer::new(1 << 20);
        let pages = pages.into_iter().map(|(glyphs, panels)| Page::of(glyphs, panels, 800.0)).collect();
        let written = blocks::write(pages, &mut out);
        let text = out.finish();
        let listings = text.split("```\n").skip(1).step_by(2).map(|code| code.trim_end().to_string()).collect();
        (listings, written.page_lines, text)
    }

    const FIRST: &str = "install --all\n\nstart now";
    const SECOND: &str = "stop later\n  restart";

    #[test]
    fn listings_are_parted_by_space_that_is_no_whole_line() {
        let page = [code(FIRST, 100.0), code(SECOND, 120.0 + 26.0), set("Words after it.", 50.0, 190.0, 10.0)].concat();
        assert_eq!(read(vec![(page, vec![])]).0, [FIRST, SECOND]);
    }

    #[test]
    fn painted_panels_part_listings_and_a_painted_line_within_one_does_not() {
        let panel = |from: f64, to: f64| Rect::new(50.0, from, 500.0, to);
        let page = [code(FIRST, 100.0), code(SECOND, 140.0)].concat();
        let (listings, ..) = read(vec![(page.clone(), vec![panel(90.0, 124.0), panel(130.0, 154.0)])]);
        assert_eq!(listings, [FIRST, SECOND]);
        // Line by line, as some programs paint.
        let lines = [92.0, 102.0, 112.0, 132.0, 142.0].map(|y| panel(y, y + 10.0)).to_vec();
        assert_eq!(read(vec![(page.clone(), lines)]).0, [FIRST, SECOND]);
        let marked = vec![panel(90.0, 154.0), panel(132.0, 142.0)];
        assert_eq!(read(vec![(page, marked)]).0, [format!("{FIRST}\n\n{SECOND}")]);
    }

    #[test]
    fn empty_lines_between_all_others_are_kept() {
        let text = "first of it\n\nsecond of it\n\nthird of it";
        let page = [set("Words before it.", 50.0, 80.0, 10.0), code(text, 100.0)].concat();
        assert_eq!(read(vec![(page, vec![])]).0, [text]);
    }

    /// A listing at the end of a page, and what stands at the top of the next one.
    fn over_a_page(from: f64) -> (Vec<String>, Vec<usize>, String) {
        let frame = |number: usize| set(&format!("Manual, page {number}"), 50.0, 785.0, 8.0);
        let words = |y: f64| set("Words that stand before and after it.", 50.0, y, 10.0);
        let first = [words(100.0), code(FIRST, from), frame(1)].concat();
        let second = [code("  deep\n\n    deeper\nback again", 60.0), words(110.0), frame(2)].concat();
        let third = [words(60.0), words(700.0), frame(3)].concat();
        read([first, second, third].map(|page| (page, vec![])).to_vec())
    }

    #[test]
    fn a_listing_that_fills_its_page_goes_on_at_the_top_of_the_next() {
        let (listings, page_lines, text) = over_a_page(680.0);
        let expected = format!("{FIRST}\n  deep\n\n    deeper\nback again");
        assert_eq!(listings, [expected]);
        assert_eq!(text.lines().nth(page_lines[1] - 1), Some("  deep"));
        assert!(!text.contains("Manual"), "{text}");
    }

    #[test]
    fn a_listing_that_leaves_room_on_its_page_has_ended() {
        let (listings, page_lines, text) = over_a_page(580.0);
        assert_eq!(listings.len(), 2, "{text}");
        assert_eq!(text.lines().nth(page_lines[1] - 1), Some("```"));
    }
}
