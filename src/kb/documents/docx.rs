//! DOCX (ECMA-376, WordprocessingML): paragraphs by their styles, lists, tables, links, pictures, code.
//!
//! The file is a ZIP of XML parts. `styles` reads what paragraphs are called and how lists count; here the body is
//! walked once, event by event, so that nesting costs no stack. A picture is named by its part
//! (`word/media/image1.png`), which [`super::member`] finds in the file again.

mod package;
mod styles;

use std::collections::HashMap;

use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};

use super::writer::{Writer, code_span, escape, image, link};
use super::{DocumentError, Format, Limits, Reading};
use package::{Package, attribute, entity};
use styles::Styles;

/// Reads a document.
///
/// # Errors
/// Where it is no DOCX, encrypted, or larger than it may be when unpacked.
pub(super) fn read(bytes: &[u8], limits: &Limits) -> Result<Reading, DocumentError> {
    if bytes.starts_with(&[0xd0, 0xcf, 0x11, 0xe0]) {
        // An OLE file: an encrypted DOCX, or a DOC of the last century.
        return Err(DocumentError::Encrypted);
    }
    let mut package = Package::open(bytes, limits)?;
    let body = package
        .part("word/document.xml")?
        .ok_or_else(|| DocumentError::broken(Format::Docx, "it has no part word/document.xml"))?;
    let styles = Styles::read(&mut package)?;
    let links = package.relations("word/_rels/document.xml.rels")?;
    let mut walker = Body::new(&styles, &links, Writer::new(limits.max_text_bytes));
    let end = walker.walk(&body);
    walker.end_code();
    let title = package.core_title()?.or(walker.title.take());
    let mut reading = Reading { title, ..Reading::default() };
    if let Err(e) = end {
        reading.skipped.push(format!("what follows a fault in the XML ({e})"));
    }
    if walker.deleted > 0 {
        reading.skipped.push("passages that are marked as deleted or moved away".into());
    }
    for (part, what) in [("word/footnotes.xml", "footnotes"), ("word/comments.xml", "comments")] {
        if package.has(part) {
            reading.skipped.push(what.into());
        }
    }
    reading.take(walker.out, limits);
    Ok(reading)
}

/// A paragraph under way.
#[derive(Default)]
struct Paragraph {
    style: String,
    /// Numbering and level of its own; the style may have another.
    list: Option<(String, usize)>,
    level: Option<usize>,
    inline: String,
    /// The same as plain text, for headings and code.
    plain: String,
    /// Runs with text, and how many of them are in a font for code.
    runs: usize,
    code_runs: usize,
}

#[derive(Default)]
struct Run {
    bold: bool,
    italic: bool,
    code: bool,
    text: String,
}

#[derive(Default)]
struct Table {
    rows: Vec<Vec<String>>,
    cell: String,
    span: usize,
}

struct Body<'a> {
    styles: &'a Styles,
    links: &'a HashMap<String, String>,
    out: Writer,
    paragraph: Paragraph,
    run: Run,
    /// Open link: its target, and where its words begin in the paragraph.
    link: Option<(String, usize)>,
    tables: Vec<Table>,
    /// Lines of code that wait for the next paragraph.
    code: Vec<String>,
    /// Counters of numbered lists: by numbering and level.
    counters: HashMap<(String, usize), usize>,
    /// Alternative text of the picture under way.
    alt: String,
    title: Option<String>,
    /// Depth below an element that is passed over.
    skipping: usize,
    deleted: usize,
    in_text: bool,
}

impl<'a> Body<'a> {
    fn new(styles: &'a Styles, links: &'a HashMap<String, String>, out: Writer) -> Self {
        Self {
            styles,
            links,
            out,
            paragraph: Paragraph::default(),
            run: Run::default(),
            link: None,
            tables: Vec::new(),
            code: Vec::new(),
            counters: HashMap::new(),
            alt: String::new(),
            title: None,
            skipping: 0,
            deleted: 0,
            in_text: false,
        }
    }

    fn walk(&mut self, xml: &str) -> Result<(), quick_xml::Error> {
        let mut reader = Reader::from_str(xml);
        reader.config_mut().check_end_names = false;
        loop {
            match reader.read_event()? {
                Event::Start(_) if self.skipping > 0 => self.skipping += 1,
                Event::End(_) if self.skipping > 0 => self.skipping -= 1,
                Event::Eof => return Ok(()),
                _ if self.skipping > 0 => {}
                Event::Start(e) => self.start(&e, true),
                Event::Empty(e) => {
                    self.start(&e, false);
                    self.end(&local(&e));
                }
                Event::End(e) => self.end(e.local_name().into_inner()),
                Event::Text(e) if self.in_text => self.run.text.push_str(&e.xml10_content()),
                Event::CData(e) if self.in_text => self.run.text.push_str(&e.xml10_content()),
                Event::GeneralRef(e) if self.in_text => self.run.text.push_str(&entity(&e)),
                _ => {}
            }
        }
    }

    fn start(&mut self, e: &BytesStart<'_>, opens: bool) {
        let value = || attribute(e, "val").unwrap_or_default();
        let is_on = || !matches!(attribute(e, "val").as_deref(), Some("0" | "false" | "none"));
        match local(e).as_str() {
            "del" | "moveFrom" | "Fallback" | "instrText" | "txbxContent" if opens => {
                self.deleted += usize::from(local(e) == "del" || local(e) == "moveFrom");
                self.skipping = 1;
            }
            "p" => self.paragraph = Paragraph::default(),
            "pStyle" => self.paragraph.style = value(),
            "numId" => {
                let level = self.paragraph.list.as_ref().map_or(0, |(_, level)| *level);
                self.paragraph.list = Some((value(), level));
            }
            "ilvl" => {
                let number = self.paragraph.list.take().map_or(String::new(), |(number, _)| number);
                self.paragraph.list = Some((number, value().parse().unwrap_or(0)));
            }
            "outlineLvl" => self.paragraph.level = value().parse().ok(),
            "r" => self.run = Run::default(),
            "b" => self.run.bold = is_on(),
            "i" => self.run.italic = is_on(),
            "rStyle" => self.run.code |= self.styles.is_code(&value()),
            "rFonts" => self.run.code |= attribute(e, "ascii").is_some_and(|font| styles::is_code_font(&font)),
            "t" => self.in_text = opens,
            "tab" => self.run.text.push('\t'),
            "br" | "cr" if attribute(e, "type").as_deref() != Some("page") => self.run.text.push('\n'),
            "noBreakHyphen" => self.run.text.push('-'),
            "hyperlink" => {
                let target = attribute(e, "id").and_then(|id| self.links.get(&id).cloned());
                self.link = target.map(|target| (target, self.paragraph.inline.len()));
            }
            "docPr" => self.alt = attribute(e, "descr").unwrap_or_default(),
            "blip" | "imagedata" => {
                let part = attribute(e, "embed").or(attribute(e, "id")).and_then(|id| self.links.get(&id).cloned());
                if let Some(part) = part.filter(|part| !part.contains("://")) {
                    let path = format!(
                        "{}word/{}",
                        super::archive::INSIDE,
                        part.trim_start_matches('/').trim_start_matches("word/")
                    );
                    self.paragraph.inline.push_str(&image(&std::mem::take(&mut self.alt), &path));
                    self.out.counts.images += 1;
                }
            }
            "tbl" => {
                self.end_code();
                self.tables.push(Table::default());
            }
            "tr" => self.tables.iter_mut().last().into_iter().for_each(|table| table.rows.push(Vec::new())),
            "tc" => self.tables.iter_mut().last().into_iter().for_each(|table| {
                table.cell.clear();
                table.span = 1;
            }),
            "gridSpan" => {
                let span = value().parse().unwrap_or(1usize).clamp(1, 64);
                self.tables.iter_mut().last().into_iter().for_each(|table| table.span = span);
            }
            _ => {}
        }
    }

    fn end(&mut self, name: &str) {
        match name {
            "t" => self.in_text = false,
            "r" => self.end_run(),
            "hyperlink" => {
                if let Some((target, from)) = self.link.take() {
                    let words = self.paragraph.inline.split_off(from);
                    let linked = if words.trim().is_empty() { words } else { link(words.trim(), &target) };
                    self.paragraph.inline.push_str(&linked);
                }
            }
            "p" => self.end_paragraph(),
            "tc" => {
                if let Some(table) = self.tables.last_mut() {
                    let cell = std::mem::take(&mut table.cell);
                    let span = table.span.max(1);
                    if let Some(row) = table.rows.last_mut() {
                        row.push(cell);
                        row.extend(std::iter::repeat_n(String::new(), span - 1));
                    }
                }
            }
            "tbl" => self.end_table(),
            _ => {}
        }
    }

    fn end_run(&mut self) {
        let run = std::mem::take(&mut self.run);
        if run.text.is_empty() {
            return;
        }
        let paragraph = &mut self.paragraph;
        paragraph.plain.push_str(&run.text);
        if run.text.trim().is_empty() {
            paragraph.inline.push_str(&run.text);
            return;
        }
        paragraph.runs += 1;
        paragraph.code_runs += usize::from(run.code);
        let body = run.text.trim();
        let start = run.text.len() - run.text.trim_start().len();
        let (front, back) = (&run.text[..start], &run.text[start + body.len()..]);
        let marks = match (run.bold, run.italic) {
            _ if body.contains('\n') => "",
            (true, _) => "**",
            (_, true) => "*",
            _ => "",
        };
        let inner = if run.code && !body.contains('\n') { code_span(body) } else { escape(body) };
        // Two bold runs after each other are one.
        let joins = !marks.is_empty()
            && front.is_empty()
            && !run.code
            && paragraph.inline.ends_with(marks)
            && !paragraph.inline.ends_with(&format!("\\{marks}"));
        match joins {
            true => {
                paragraph.inline.truncate(paragraph.inline.len() - marks.len());
                paragraph.inline.push_str(&format!("{inner}{marks}{back}"));
            }
            false if run.code => paragraph.inline.push_str(&format!("{front}{inner}{back}")),
            false => paragraph.inline.push_str(&format!("{front}{marks}{inner}{marks}{back}")),
        }
    }

    fn end_paragraph(&mut self) {
        let paragraph = std::mem::take(&mut self.paragraph);
        if let Some(table) = self.tables.last_mut() {
            if !paragraph.inline.trim().is_empty() {
                table.cell.push(' ');
                table.cell.push_str(&paragraph.inline);
            }
            return;
        }
        let all_code = paragraph.runs > 0 && paragraph.code_runs == paragraph.runs && !paragraph.inline.contains("](");
        let named_code = self.styles.is_code(&paragraph.style);
        let empty_in_code = paragraph.plain.trim().is_empty() && paragraph.inline.is_empty() && !self.code.is_empty();
        if named_code || all_code || empty_in_code {
            self.code.push(paragraph.plain);
            return;
        }
        self.end_code();
        let level = paragraph.level.map(|level| level + 1).or_else(|| self.styles.heading(&paragraph.style));
        if let Some(level) = level.filter(|level| (1..=9).contains(level) && !paragraph.plain.trim().is_empty()) {
            if level == 1 && self.title.is_none() {
                self.title = Some(paragraph.plain.split_whitespace().collect::<Vec<_>>().join(" "));
            }
            self.out.heading(level, &paragraph.plain);
            return;
        }
        let list = paragraph.list.filter(|(number, _)| number != "0").or_else(|| self.styles.list(&paragraph.style));
        match list {
            Some((number, level)) if !paragraph.inline.trim().is_empty() => {
                let level = level.min(8);
                let number = self.styles.is_ordered(&number, level).then(|| {
                    self.counters.retain(|(of, deeper), _| *of != number || *deeper <= level);
                    let counter = self.counters.entry((number.clone(), level)).or_default();
                    *counter += 1;
                    *counter
                });
                self.out.item(level, number);
            }
            _ => self.out.leave_lists(0),
        }
        self.out.paragraph(&paragraph.inline);
    }

    fn end_table(&mut self) {
        let Some(mut table) = self.tables.pop() else { return };
        table.rows.retain(|row| row.iter().any(|cell| !cell.trim().is_empty()));
        match self.tables.last_mut() {
            // A table in a cell is the cell's text.
            Some(outer) => {
                let rows = table.rows.iter().map(|row| row.join(" "));
                outer.cell.push_str(&rows.collect::<Vec<_>>().join(" "));
            }
            None => {
                self.out.leave_lists(0);
                match table.rows.as_slice() {
                    [row] if row.len() == 1 => self.out.paragraph(&row[0]),
                    rows => self.out.table(rows),
                }
            }
        }
    }

    fn end_code(&mut self) {
        let code = std::mem::take(&mut self.code).join("\n");
        let code = code.trim_end();
        if !code.is_empty() {
            self.out.code("", code);
        }
    }
}

/// A tag's name without prefix.
fn local(e: &BytesStart<'_>) -> String {
    e.local_name().into_inner().to_string()
}
