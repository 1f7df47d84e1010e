//! How things are shown to people: bars, sizes, faults.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::kb::{IndexProgress, IndexReport, IndexStep, pack};

/// `812 MiB`, `4.5 GiB`.
pub fn mib(mib: u64) -> String {
    if mib < 1024 { format!("{mib} MiB") } else { format!("{:.1} GiB", mib as f64 / 1024.0) }
}

/// A bar of bytes with speed and time left, on stderr.
pub fn byte_bar(label: &str) -> ProgressBar {
    let template = "{prefix}  {bar:30} {bytes} of {total_bytes}  {bytes_per_sec}  {eta} left";
    styled(ProgressBar::new(0), template).with_prefix(label.to_string())
}

/// A bar of what indexing is at, on stderr.
pub fn index_bar() -> ProgressBar {
    styled(ProgressBar::new(0), "indexing: {msg}  {bar:30} {pos} of {len}  {eta} left")
}

/// A bar of labelled rows, on stderr.
pub fn row_bar() -> ProgressBar {
    styled(ProgressBar::new(0), "{msg}  {bar:30} {pos} of {len} rows  {eta} left")
}

fn styled(bar: ProgressBar, template: &str) -> ProgressBar {
    bar.enable_steady_tick(Duration::from_millis(200));
    bar.with_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()))
}

/// Moves an index bar.
pub fn index_progress(bar: &ProgressBar, progress: IndexProgress) {
    let step = match progress.step {
        IndexStep::Embed => "embedding texts",
        IndexStep::Link => "linking vectors",
        IndexStep::Words => "writing words",
    };
    if bar.message() != step {
        // The next step has a pace of its own.
        bar.reset_eta();
        bar.set_message(step);
    }
    bar.set_length(progress.total as u64);
    bar.set_position(progress.done as u64);
}

/// One paragraph about an index run, with the pack's warnings.
pub fn index_report(report: &IndexReport) -> String {
    let mut text = format!(
        "{} files, {} chunks: {} embedded, {} unchanged, in {:.1} s",
        report.files, report.chunks, report.embedded, report.reused, report.seconds
    );
    if report.truncated > 0 {
        let one = report.truncated == 1;
        text += &format!(
            "\n{} chunk{} longer than the embedding model reads; the rest of {} is found by words only",
            report.truncated,
            if one { " is" } else { "s are" },
            if one { "it" } else { "them" }
        );
    }
    if !report.faults.is_empty() {
        text += &format!("\n{} in the pack:\n{}", count(report.faults.len(), "fault"), pack::list(&report.faults));
    }
    text
}

/// What became of each document, a line each.
pub fn file_reports(reports: &[pack::FileReport]) -> String {
    let line = |report: &pack::FileReport| {
        let left_out = report.skipped.join("; ");
        match &report.read {
            Some(read) if left_out.is_empty() => format!("read     {}: {read}\n", report.path),
            Some(read) => format!("read     {}: {read}; left out: {left_out}\n", report.path),
            None => format!("skipped  {}: {left_out}\n", report.path),
        }
    };
    reports.iter().map(line).collect()
}

/// `1 fault`, `2 faults`.
pub fn count(n: usize, noun: &str) -> String {
    format!("{n} {noun}{}", if n == 1 { "" } else { "s" })
}
