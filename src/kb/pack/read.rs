//! Reading a whole pack, with every fault.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;

use super::files::{Files, Limits};
use super::{
    Article, Company, FaqEntry, Fault, Pack, UPLOADS, app_map, articles, company, faq, filters, operators, references,
};
use crate::config::KnowledgeSettings;

impl Pack {
    /// Reads and checks the folder `settings.dir`. Never fails: what is wrong stands in `faults`, what could be read is
    /// there all the same, and a pack with a fatal fault is not to be served.
    pub fn read(settings: &KnowledgeSettings) -> Self {
        Self::read_with(settings, None, None)
    }

    /// The same with the folder of entries that people added through the console where the pack is read-only, and with the
    /// folder of files that were uploaded to the pack's vector store.
    pub fn read_with(settings: &KnowledgeSettings, desk: Option<&Path>, uploads: Option<&Path>) -> Self {
        let limits = Limits::of(settings);
        let mut files = match Files::open(&settings.dir, "", limits.clone()) {
            Ok(files) => files,
            Err(reason) => {
                let fault = Fault { path: settings.dir.display().to_string(), line: 0, reason, fatal: true };
                return Self { dir: settings.dir.clone(), faults: vec![fault], ..Self::default() };
            }
        };
        let mut paths: BTreeSet<String> = files.list("").into_iter().collect();
        let company = company::read(&mut files);
        let operators = operators::read(&mut files, &company);
        let mut articles = articles::read(&mut files, "articles", &company);
        let mut faq = faq::read(&mut files, &company);
        let app_map = app_map::read(&mut files, &company);
        let filters = filters::read(&mut files, &company);
        let evals = filters::read_evals(&mut files, &operators);
        let customers = filters::read_customers(&mut files, &operators);
        let (root, mut digest, mut faults) =
            (files.root().to_path_buf(), files.digest(), std::mem::take(&mut files.faults));
        let mut reports = std::mem::take(&mut files.reports);
        paths.append(&mut files.members.drain(..).collect());

        let mut desk_article_paths = BTreeSet::new();
        for dir in
            [Some(root.join("desk")), desk.map(Path::to_path_buf)].into_iter().flatten().filter(|dir| dir.is_dir())
        {
            let Ok(mut files) = Files::open(&dir, "desk/", limits.clone()) else { continue };
            let more = articles::read(&mut files, "articles", &company);
            desk_article_paths.extend(more.iter().map(|a| a.path.clone()));
            overlay_articles(&mut articles, more);
            overlay_faq(&mut faq, faq::read(&mut files, &company));
            digest = format!("{digest}{}", files.digest());
            faults.append(&mut files.faults);
            reports.append(&mut files.reports);
            paths.extend(files.members.iter().map(|path| files.named(path)));
        }
        let uploads = uploads.filter(|dir| dir.is_dir()).map(Path::to_path_buf);
        if let Some(mut files) = uploads.as_ref().and_then(|dir| Files::open(dir, UPLOADS, limits.clone()).ok()) {
            let more = articles::read(&mut files, "articles", &company);
            desk_article_paths.extend(more.iter().map(|a| a.path.clone()));
            articles.extend(more);
            digest = format!("{digest}{}", files.digest());
            faults.extend(tolerated(files.faults.drain(..)));
            reports.append(&mut files.reports);
            paths.extend(files.members.iter().map(|path| files.named(path)));
        }
        let all_paths: BTreeSet<String> = paths.into_iter().chain(desk_article_paths).collect();
        references::check(&all_paths, &articles, &faq, &mut faults);
        if articles.is_empty() && faq.is_empty() && faults.iter().all(|fault| !fault.fatal) {
            let reason = "there are neither articles nor FAQ entries; the operators will answer from their \
                          instructions alone"
                .to_string();
            faults.push(Fault { path: "articles".into(), line: 0, reason, fatal: false });
        }
        dedup(&mut faults);
        let digest = blake3::hash(digest.as_bytes()).to_hex()[..16].to_string();
        let paths = all_paths;
        Self {
            dir: root,
            company,
            operators,
            articles,
            faq,
            app_map,
            filters,
            evals,
            customers,
            faults,
            reports,
            digest,
            paths,
            uploads,
        }
    }

    /// A folder of nothing but articles, for a company: what was uploaded to a vector store. Never fatal: a file that cannot
    /// be read is a fault of its own.
    pub fn read_articles(dir: &Path, settings: &KnowledgeSettings, company: &Company) -> Self {
        let mut pack = Self { dir: dir.to_path_buf(), company: company.clone(), ..Self::default() };
        match Files::open(dir, "", Limits::of(settings)) {
            Ok(mut files) => {
                pack.articles = articles::read(&mut files, "articles", company);
                pack.digest = files.digest()[..16].to_string();
                pack.faults = tolerated(files.faults.drain(..)).collect();
                pack.reports = std::mem::take(&mut files.reports);
            }
            Err(reason) => pack.faults.push(Fault { path: dir.display().to_string(), line: 0, reason, fatal: false }),
        }
        pack
    }

    /// The folder in which a file of the pack lies, and its path there: uploaded ones lie beside the pack.
    pub fn place<'a>(&'a self, path: &'a str) -> (&'a Path, &'a str) {
        match (path.strip_prefix(UPLOADS), &self.uploads) {
            (Some(inside), Some(uploads)) => (uploads, inside),
            _ => (&self.dir, path),
        }
    }

    /// False where a fault forbids to serve the pack.
    pub fn is_usable(&self) -> bool {
        self.faults.iter().all(|fault| !fault.fatal)
    }
}

/// What clients uploaded never takes the pack down.
fn tolerated(faults: impl Iterator<Item = Fault>) -> impl Iterator<Item = Fault> {
    faults.map(|fault| Fault { fatal: false, ..fault })
}

/// An article of the desk replaces the pack's article of the same path, and keeps that path: links to it, its images
/// and what cites it stay as they were.
fn overlay_articles(articles: &mut Vec<Article>, more: Vec<Article>) {
    for article in more {
        let original = article.path.trim_start_matches("desk/").to_string();
        match articles.iter_mut().find(|a| a.path == original || a.path == article.path) {
            Some(replaced) => *replaced = Article { path: replaced.path.clone(), ..article },
            None => articles.push(article),
        }
    }
}

/// A FAQ entry of the desk replaces the pack's entry that answers the same question in the same language.
fn overlay_faq(faq: &mut Vec<FaqEntry>, more: Vec<FaqEntry>) {
    for entry in more {
        let asks = |other: &FaqEntry| {
            other.lang == entry.lang
                && other.questions.iter().any(|q| entry.questions.iter().any(|e| e.eq_ignore_ascii_case(q)))
        };
        faq.retain(|other| !asks(other));
        faq.push(entry);
    }
}

/// The same file may be looked at twice (a listing, then a reading).
fn dedup(faults: &mut Vec<Fault>) {
    let mut seen: HashMap<(String, usize, String), ()> = HashMap::new();
    faults.retain(|fault| seen.insert((fault.path.clone(), fault.line, fault.reason.clone()), ()).is_none());
}
