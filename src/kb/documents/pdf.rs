//! PDF: text by the place of its letters.
//!
//! A PDF says where each letter stands and little else. hayro interprets the pages and names the letters; `lines` puts
//! them together as lines, and `blocks` tells from size, distance, thickness and the width of letters what is a heading, a
//! paragraph, an item, a table or code, and `code` where a listing begins and ends. What stands at the edge of most pages is their frame, and not read. Pictures
//! are counted and left out; a page without text is most likely a scan, and the report says so.

mod blocks;
mod code;
mod lines;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hayro_interpret::font::{self, GlyphRun};
use hayro_interpret::hayro_cmap::BfString;
use hayro_interpret::hayro_syntax::{LoadPdfError, Pdf};
use hayro_interpret::kurbo::{Affine, BezPath, Rect, Shape};
use hayro_interpret::{
    BlendMode, ClipPath, Context, Device, DrawMode, DrawProps, Image, ImageDrawProps, InterpreterCache,
    InterpreterSettings, SoftMask, TransformExt, interpret_page,
};

use super::writer::Writer;
use super::{DocumentError, Format, Limits, Reading};
use lines::{Glyph, Page};

/// Letters of one page beyond this are left out.
const MAX_PAGE_GLYPHS: usize = 400_000;
/// Painted areas of one page beyond this are not looked at.
const MAX_PAGE_PANELS: usize = 4000;
/// Areas less wide or high than this, in points, are rules and decoration.
const PANEL_POINTS: (f64, f64) = (24.0, 5.0);
/// Share of the time limit after which no new page is begun, so that what was read is not lost.
const TIME_SHARE: f32 = 0.7;
/// Pictures smaller than this, in points, are decoration.
const PICTURE_POINTS: f64 = 48.0;

/// Reads a document.
///
/// # Errors
/// Where it is no PDF, or encrypted with a password.
pub(super) fn read(bytes: &[u8], limits: &Limits) -> Result<Reading, DocumentError> {
    let started = Instant::now();
    let deadline = Duration::from_secs(limits.timeout_s).mul_f32(TIME_SHARE);
    let pdf = Pdf::new(Arc::new(bytes.to_vec())).map_err(|e| match e {
        LoadPdfError::Decryption(_) => DocumentError::Encrypted,
        LoadPdfError::Invalid => DocumentError::broken(Format::Pdf, "its structure cannot be read"),
    })?;
    let cache = InterpreterCache::new();
    let mut reading = Reading::default();
    let (mut pages, mut pictures, mut silent): (Vec<Page>, usize, Vec<usize>) = (Vec::new(), 0, Vec::new());
    let all = pdf.pages().len();
    for (at, page) in pdf.pages().iter().enumerate() {
        if at >= limits.max_pages {
            reading.skipped.push(format!("pages {} to {all} (knowledge.max_document_pages)", at + 1));
            break;
        }
        if started.elapsed() > deadline {
            reading.skipped.push(format!("pages {} to {all}: no time was left (knowledge.document_timeout_s)", at + 1));
            break;
        }
        let (width, height) = page.render_dimensions();
        let mut found = Found { width: f64::from(width), height: f64::from(height), ..Found::default() };
        // The origin is the upper left corner, whichever way the page is turned.
        let turned = page.initial_transform(true).to_kurbo();
        let area = Rect::new(0.0, 0.0, f64::from(width), f64::from(height));
        let mut context = Context::new(turned, area, &cache, pdf.xref(), InterpreterSettings::default());
        interpret_page(page, &mut context, &mut found);
        pictures += found.pictures;
        let page = Page::of(found.glyphs, found.panels, f64::from(height));
        if page.lines.is_empty() && found.pictures > 0 {
            silent.push(at + 1);
        }
        pages.push(page);
    }
    if !silent.is_empty() {
        let numbers = silent.iter().take(12).map(usize::to_string).collect::<Vec<_>>().join(", ");
        let more = if silent.len() > 12 { ", …" } else { "" };
        reading
            .skipped
            .push(format!("{} without text (scanned?): {numbers}{more}", super::counted(silent.len(), "page")));
    }
    if pictures > 0 {
        reading.skipped.push(super::counted(pictures, "picture"));
    }
    let mut out = Writer::new(limits.max_text_bytes);
    let written = blocks::write(pages, &mut out);
    reading.page_lines = written.page_lines;
    reading.title = stated_title(&pdf).or(written.title);
    reading.take(out, limits);
    Ok(reading)
}

/// The title in the file's properties, where it looks like one.
fn stated_title(pdf: &Pdf) -> Option<String> {
    let bytes = pdf.metadata().title.as_ref()?;
    let title = match &bytes[..] {
        [0xfe, 0xff, rest @ ..] => {
            let units: Vec<u16> = rest.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]])).collect();
            String::from_utf16_lossy(&units)
        }
        [0xef, 0xbb, 0xbf, rest @ ..] => String::from_utf8_lossy(rest).into_owned(),
        bytes => match std::str::from_utf8(bytes) {
            Ok(text) => text.to_string(),
            Err(_) => encoding_rs::WINDOWS_1252.decode(bytes).0.into_owned(),
        },
    };
    let title: String = title.split_whitespace().collect::<Vec<_>>().join(" ");
    // What programs write there by themselves: a file's name, "untitled".
    let lower = title.to_lowercase();
    let made = ["untitled", "anonymous", "(anonymous)", "document"].contains(&lower.as_str())
        || lower.starts_with("microsoft word")
        || lower.rsplit_once('.').is_some_and(|(_, end)| (2..=4).contains(&end.len()) && !lower.contains(' '));
    (title.chars().filter(|c| c.is_alphanumeric()).count() > 2 && !made).then_some(title)
}

/// A letter, or those that a ligature stands for.
fn letters(c: char) -> String {
    match c {
        '\u{fb00}' => "ff".into(),
        '\u{fb01}' => "fi".into(),
        '\u{fb02}' => "fl".into(),
        '\u{fb03}' => "ffi".into(),
        '\u{fb04}' => "ffl".into(),
        '\u{fb05}' | '\u{fb06}' => "st".into(),
        other => other.into(),
    }
}

/// Collects what a page shows.
#[derive(Default)]
struct Found {
    width: f64,
    height: f64,
    glyphs: Vec<Glyph>,
    panels: Vec<Rect>,
    pictures: usize,
    /// How thick the strokes of a font's letters are.
    strokes: HashMap<u128, f32>,
}

impl Found {
    /// How thick a letter's strokes are, in thousandths of its size: a stroke has two sides, so its area is half of its
    /// outline's length times its thickness. Names and flags of fonts would say it too, and are often missing or wrong.
    fn stroke(&mut self, glyph: &font::Glyph<'_>) -> f32 {
        let font::Glyph::Outline(outline) = glyph else { return 0.0 };
        *self.strokes.entry(outline.identifier().cache_key()).or_insert_with(|| {
            let path = outline.outline();
            let thickness = 2.0 * path.area().abs() / path.perimeter(1.0);
            if thickness.is_finite() { thickness as f32 } else { 0.0 }
        })
    }

    fn is_on_page(&self, x: f64, y: f64) -> bool {
        (-1.0..=self.width + 1.0).contains(&x) && (-1.0..=self.height + 1.0).contains(&y)
    }
}

impl Device<'_> for Found {
    fn draw_path(&mut self, path: &BezPath, props: DrawProps<'_>, _: &DrawMode) {
        let area = props.transform.transform_rect_bbox(path.bounding_box());
        let (least_width, least_height) = PANEL_POINTS;
        let is_panel = area.is_finite() && area.width() >= least_width && area.height() >= least_height;
        // A whole page's paint says nothing.
        if is_panel && area.area() < 0.9 * self.width * self.height && self.panels.len() < MAX_PAGE_PANELS {
            self.panels.push(area);
        }
    }
    fn push_clip_path(&mut self, _: &ClipPath) {}
    fn push_transparency_group(&mut self, _: f32, _: Option<SoftMask<'_>>, _: BlendMode) {}
    fn pop_clip(&mut self) {}
    fn pop_transparency_group(&mut self) {}

    fn draw_glyph_run(&mut self, run: &GlyphRun<'_, '_>, props: DrawProps<'_>, _: &DrawMode) {
        for glyph in run.glyphs() {
            if self.glyphs.len() >= MAX_PAGE_GLYPHS {
                return;
            }
            let text = match glyph.as_unicode() {
                Some(BfString::Char(c)) => letters(c),
                Some(BfString::String(text)) => text.chars().map(letters).collect(),
                // Letters that are drawn and not named (TeX's of pixels) are counted as in ASCII.
                None => match (&**glyph, glyph.char_code()) {
                    (font::Glyph::Type3(_), code @ 0x21..0x7f) => char::from(code as u8).to_string(),
                    _ => continue,
                },
            };
            let [a, b, c, d, x, y] = (props.transform * glyph.transform()).as_coeffs();
            let size = c.hypot(d) * 1000.0;
            let advance = match &**glyph {
                font::Glyph::Outline(outline) => outline.advance_width(),
                font::Glyph::Type3(drawn) => drawn.advance_width(),
            };
            let advance = advance.unwrap_or(500.0).abs() / 1000.0;
            // Text across the page (a watermark, a chart's axis) is no line of it.
            let is_level = b.abs() <= 0.05 * a.abs();
            if !is_level || !size.is_finite() || !(1.0..=400.0).contains(&size) || !self.is_on_page(x, y) {
                continue;
            }
            let width = f64::from(advance) * a.abs() * 1000.0;
            let stroke = self.stroke(glyph);
            self.glyphs.push(Glyph { x, y, size, width, advance, stroke, text });
        }
    }

    fn draw_image(&mut self, _: Image<'_, '_>, props: ImageDrawProps<'_>) {
        let [a, b, c, d, _, _] = Affine::as_coeffs(props.transform);
        if a.hypot(b) >= PICTURE_POINTS && c.hypot(d) >= PICTURE_POINTS {
            self.pictures += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ligatures_are_the_letters_that_they_stand_for() {
        let text: String = "con\u{fb01}gure the o\u{fb03}ce".chars().map(letters).collect();
        assert_eq!(text, "configure the office");
    }
}
