//! MHTML (RFC 2557): a page that a browser saved with its parts in one file. The page itself is the first part that
//! is HTML; its pictures are left out.

use base64::Engine;

use super::{DocumentError, Format, Limits, Reading, html};

/// Reads the page.
///
/// # Errors
/// Where no part of the file is HTML.
pub(super) fn read(bytes: &[u8], limits: &Limits) -> Result<Reading, DocumentError> {
    let (head, body) = parted(bytes);
    let headers = headers(head);
    let page = match value(&headers, "content-type", "boundary") {
        Some(boundary) => {
            let parts = parts(body, &boundary);
            parts.into_iter().find_map(|part| {
                let (head, body) = parted(part);
                let headers = self::headers(head);
                is_html(&headers).then(|| content(&headers, body))
            })
        }
        None => is_html(&headers).then(|| content(&headers, body)),
    };
    let page = page.ok_or_else(|| DocumentError::broken(Format::Mhtml, "no part of it is HTML"))?;
    Ok(html::read(&page, limits))
}

/// Headers and what follows the first empty line.
fn parted(bytes: &[u8]) -> (&[u8], &[u8]) {
    let found = |end: &[u8]| bytes.windows(end.len()).position(|at| at == end).map(|at| (at, at + end.len()));
    let ends = [found(b"\r\n\r\n"), found(b"\n\n")];
    match ends.into_iter().flatten().min() {
        Some((end, start)) => (&bytes[..end], &bytes[start..]),
        None => (&[], bytes),
    }
}

/// Names in lower case, and values with their folded lines joined.
fn headers(head: &[u8]) -> Vec<(String, String)> {
    let mut headers: Vec<(String, String)> = Vec::new();
    for line in String::from_utf8_lossy(head).lines() {
        match line.split_once(':').filter(|_| !line.starts_with([' ', '\t'])) {
            Some((name, value)) => headers.push((name.trim().to_lowercase(), value.trim().to_string())),
            None => headers.iter_mut().last().into_iter().for_each(|(_, value)| {
                value.push(' ');
                value.push_str(line.trim());
            }),
        }
    }
    headers
}

fn header<'a>(headers: &'a [(String, String)], name: &str) -> Option<&'a str> {
    headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
}

/// A parameter of a header: `boundary` in `multipart/related; boundary="x"`.
fn value(headers: &[(String, String)], name: &str, parameter: &str) -> Option<String> {
    let parts = header(headers, name)?.split(';').skip(1);
    let mut named = parts.filter_map(|part| part.split_once('='));
    let found = named.find(|(key, _)| key.trim().eq_ignore_ascii_case(parameter))?;
    Some(found.1.trim().trim_matches('"').to_string()).filter(|value| !value.is_empty())
}

fn is_html(headers: &[(String, String)]) -> bool {
    header(headers, "content-type").is_some_and(|kind| {
        let kind = kind.to_lowercase();
        kind.starts_with("text/html") || kind.starts_with("application/xhtml")
    })
}

fn parts<'a>(body: &'a [u8], boundary: &str) -> Vec<&'a [u8]> {
    let line = format!("--{boundary}").into_bytes();
    let mut starts = Vec::new();
    let mut from = 0;
    while let Some(at) = body[from..].windows(line.len()).position(|at| at == line) {
        starts.push(from + at);
        from += at + line.len();
    }
    let ends = starts.iter().skip(1).copied().chain([body.len()]);
    let part = |(start, end): (&usize, usize)| {
        let part = &body[start + line.len()..end];
        let after = part.iter().position(|byte| *byte == b'\n').map_or(part.len(), |at| at + 1);
        &part[after..]
    };
    starts.iter().zip(ends).map(part).collect()
}

fn content(headers: &[(String, String)], body: &[u8]) -> Vec<u8> {
    let encoding = header(headers, "content-transfer-encoding").unwrap_or_default().to_lowercase();
    let bytes = match encoding.as_str() {
        "quoted-printable" => quoted_printable(body),
        "base64" => {
            let plain: Vec<u8> = body.iter().copied().filter(|b| !b.is_ascii_whitespace()).collect();
            base64::engine::general_purpose::STANDARD.decode(&plain).unwrap_or_default()
        }
        _ => body.to_vec(),
    };
    // The part's own word on its letters goes before the page's.
    let charset = value(headers, "content-type", "charset");
    match charset.and_then(|name| encoding_rs::Encoding::for_label(name.as_bytes())) {
        Some(encoding) => encoding.decode(&bytes).0.into_owned().into_bytes(),
        None => bytes,
    }
}

/// RFC 2045, section 6.7. A broken escape stays as it is.
fn quoted_printable(body: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(body.len());
    let mut at = 0;
    while at < body.len() {
        let rest = &body[at..];
        if rest.starts_with(b"=\r\n") {
            at += 3;
        } else if rest.starts_with(b"=\n") {
            at += 2;
        } else if let Some(byte) = rest.strip_prefix(b"=").and_then(|hex| hex_byte(hex.get(..2)?)) {
            out.push(byte);
            at += 3;
        } else {
            out.push(body[at]);
            at += 1;
        }
    }
    out
}

fn hex_byte(digits: &[u8]) -> Option<u8> {
    u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_of_a_saved_site_is_read() {
        let file = "From: <Saved by Blink>\r\nContent-Type: multipart/related;\r\n\ttype=\"text/html\";\r\n\tboundary=\"--x--\"\r\n\r\n\
            ----x--\r\nContent-Type: text/html\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n\
            <html><body><h1>=D0=9E=D0=BF=D0=BB=\r\n=D0=B0=D1=82=D0=B0</h1><p>a=3Db</p></body></html>\r\n\
            ----x--\r\nContent-Type: image/png\r\nContent-Transfer-Encoding: base64\r\n\r\nAAAA\r\n----x----\r\n";
        let reading = read(file.as_bytes(), &Limits::default()).unwrap();
        assert_eq!(reading.markdown.trim(), "# Оплата\n\na=b");
    }

    #[test]
    fn a_file_without_a_page_is_refused() {
        assert!(read(b"Content-Type: image/png\n\nx", &Limits::default()).is_err());
        assert!(read(b"", &Limits::default()).is_err());
    }
}
