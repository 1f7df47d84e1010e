//! The ZIP of a DOCX and its XML parts.

use std::collections::HashMap;
use std::io::{Cursor, Read};

use quick_xml::Reader;
use quick_xml::events::{BytesRef, BytesStart, Event};
use zip::ZipArchive;

use crate::kb::documents::{DocumentError, Format, Limits};

pub(super) struct Package<'a> {
    zip: ZipArchive<Cursor<&'a [u8]>>,
    /// Bytes that may still be unpacked.
    left: u64,
    limit: u64,
}

impl<'a> Package<'a> {
    pub fn open(bytes: &'a [u8], limits: &Limits) -> Result<Self, DocumentError> {
        let zip = ZipArchive::new(Cursor::new(bytes)).map_err(|e| DocumentError::broken(Format::Docx, e))?;
        Ok(Self { zip, left: limits.max_archive_bytes, limit: limits.max_archive_bytes })
    }

    pub fn has(&self, name: &str) -> bool {
        self.zip.index_for_name(name).is_some()
    }

    /// A part's text; `None` where there is none.
    pub fn part(&mut self, name: &str) -> Result<Option<String>, DocumentError> {
        let Some(at) = self.zip.index_for_name(name) else { return Ok(None) };
        let broken = |e: &dyn std::fmt::Display| DocumentError::broken(Format::Docx, format!("{name}: {e}"));
        let file = self.zip.by_index(at).map_err(|e| broken(&e))?;
        let mut bytes = Vec::new();
        file.take(self.left + 1).read_to_end(&mut bytes).map_err(|e| broken(&e))?;
        if bytes.len() as u64 > self.left {
            let limit = format!("{} bytes unpacked", self.limit);
            return Err(DocumentError::TooMuch { limit, setting: "knowledge.max_archive_bytes".into() });
        }
        self.left -= bytes.len() as u64;
        Ok(Some(String::from_utf8_lossy(&bytes).trim_start_matches('\u{feff}').to_string()))
    }

    /// Targets by id.
    pub fn relations(&mut self, name: &str) -> Result<HashMap<String, String>, DocumentError> {
        let Some(xml) = self.part(name)? else { return Ok(HashMap::new()) };
        let mut relations = HashMap::new();
        each_start(&xml, |e, element| {
            if element == "Relationship"
                && let (Some(id), Some(target)) = (attribute(e, "Id"), attribute(e, "Target"))
            {
                relations.insert(id, target);
            }
        });
        Ok(relations)
    }

    /// The title that the file's properties state.
    pub fn core_title(&mut self) -> Result<Option<String>, DocumentError> {
        let Some(xml) = self.part("docProps/core.xml")? else { return Ok(None) };
        let mut reader = Reader::from_str(&xml);
        let (mut inside, mut title) = (false, String::new());
        while let Ok(event) = reader.read_event() {
            match event {
                Event::Start(e) => inside = e.local_name().into_inner() == "title",
                Event::End(_) => inside = false,
                Event::Text(e) if inside => title.push_str(&e.xml10_content()),
                Event::GeneralRef(e) if inside => title.push_str(&entity(&e)),
                Event::Eof => break,
                _ => {}
            }
        }
        let title = title.trim().to_string();
        // What programs write there by themselves.
        let made = ["word document", "document", "untitled"].contains(&title.to_lowercase().as_str());
        Ok((!title.is_empty() && !made).then_some(title))
    }
}

/// Calls `each` with every opening tag and its name without prefix, as far as the XML is good.
pub(super) fn each_start(xml: &str, mut each: impl FnMut(&BytesStart<'_>, &str)) {
    let mut reader = Reader::from_str(xml);
    while let Ok(event) = reader.read_event() {
        match event {
            Event::Start(e) | Event::Empty(e) => {
                let name = super::local(&e);
                each(&e, &name);
            }
            Event::Eof => return,
            _ => {}
        }
    }
}

/// An attribute by its name without prefix.
pub(super) fn attribute(e: &BytesStart<'_>, name: &str) -> Option<String> {
    let found = e.attributes().with_checks(false).flatten().find(|a| a.key.local_name().into_inner() == name)?;
    found.normalized_value(quick_xml::XmlVersion::Implicit1_0).ok().map(|value| value.into_owned())
}

/// What `&lt;` or `&#10;` stands for.
pub(super) fn entity(reference: &BytesRef<'_>) -> String {
    if let Ok(Some(c)) = reference.resolve_char_ref() {
        return c.to_string();
    }
    let name: &str = reference;
    quick_xml::escape::resolve_xml_entity(name).unwrap_or_default().to_string()
}
