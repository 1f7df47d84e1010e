//! The lexical leg: BM25 over stems in tantivy. Stemming is ours (`words`), so that a Russian page's English words are
//! found too; tantivy sees stems with spaces between.
//!
//! Each language of the pack has its own fields for titles, headings and text, because a stem and its rarity belong
//! to a language; code and exact tokens (`lc-102`, `crm.item.add`) belong to none.

use std::collections::BTreeSet;
use std::path::Path;

use tantivy::collector::TopDocs;
use tantivy::query::{BooleanQuery, BoostQuery, ConstScoreQuery, Occur, Query, TermQuery};
use tantivy::schema::{FAST, Field, IndexRecordOption, STRING, Schema, TextFieldIndexing, TextOptions};
use tantivy::tokenizer::WhitespaceTokenizer;
use tantivy::{Index, IndexReader, ReloadPolicy, TantivyDocument, Term};

use crate::kb::chunk::{code_text, readable_text};
use crate::kb::words::{Stems, compounds, is_stop, words};
use crate::kb::{Chunk, KbError, SourceKind};

/// What a hit in a field is worth, against 1 for the text.
const TITLE: f32 = 1.5;
/// The chunk's own heading tells it from the other chunks of its article.
const HEADING: f32 = 3.0;
/// Headings above its own.
const ABOVE: f32 = 1.5;
const TEXT: f32 = 1.0;
const CODE: f32 = 0.6;
const EXACT: f32 = 2.5;
/// Weight of the fields of other languages than the query's.
const OTHER_LANGUAGE: f32 = 0.4;
/// More different words than this are not looked for.
const MAX_TERMS: usize = 64;
/// Chunks written between two reports of progress.
const PROGRESS_CHUNKS: usize = 256;
/// Scope of a chunk that every operator may use.
const EVERYONE: &str = "-";

/// The text side of one index.
pub(super) struct Lexical {
    reader: IndexReader,
    fields: Fields,
    stems: Vec<Stems>,
}

struct Fields {
    ord: Field,
    kind: Field,
    scope: Field,
    code: Field,
    exact: Field,
    languages: Vec<LanguageFields>,
}

struct LanguageFields {
    lang: String,
    title: Field,
    heading: Field,
    above: Field,
    text: Field,
}

/// What to look for.
pub(super) struct LexicalQuery<'a> {
    pub text: &'a str,
    pub lang: &'a str,
    pub kinds: &'a [SourceKind],
    /// Scopes besides everyone's.
    pub scopes: &'a [String],
    pub limit: usize,
}

/// Who may use a chunk: everyone, or one operator (and for what an instruction holds, one version of it).
pub(super) fn scope(chunk: &Chunk) -> String {
    match (&chunk.operator, chunk.of_instruction()) {
        (_, Some(instruction)) => instruction.to_string(),
        (Some(operator), None) => format!("operators/{operator}"),
        (None, None) => EVERYONE.into(),
    }
}

fn schema(languages: &[String]) -> (Schema, Fields) {
    let mut builder = Schema::builder();
    let indexing = TextFieldIndexing::default().set_tokenizer("stems").set_index_option(IndexRecordOption::WithFreqs);
    let stems = TextOptions::default().set_indexing_options(indexing);
    let fields = Fields {
        ord: builder.add_u64_field("ord", FAST),
        kind: builder.add_text_field("kind", STRING),
        scope: builder.add_text_field("scope", STRING),
        code: builder.add_text_field("code", stems.clone()),
        exact: builder.add_text_field("exact", stems.clone()),
        languages: languages
            .iter()
            .map(|lang| LanguageFields {
                lang: lang.clone(),
                title: builder.add_text_field(&format!("title_{lang}"), stems.clone()),
                heading: builder.add_text_field(&format!("heading_{lang}"), stems.clone()),
                above: builder.add_text_field(&format!("above_{lang}"), stems.clone()),
                text: builder.add_text_field(&format!("text_{lang}"), stems.clone()),
            })
            .collect(),
    };
    (builder.build(), fields)
}

impl Lexical {
    /// Languages that get fields: those of the chunks, sorted.
    pub fn languages(chunks: &[std::sync::Arc<Chunk>]) -> Vec<String> {
        chunks.iter().map(|chunk| chunk.lang.clone()).collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// Writes the index of `chunks` into an empty folder. `progress` is called with how many are written.
    pub fn write(dir: &Path, chunks: &[std::sync::Arc<Chunk>], progress: &mut dyn FnMut(usize)) -> Result<(), KbError> {
        std::fs::create_dir_all(dir)
            .map_err(|e| KbError::Io { path: dir.display().to_string(), reason: e.to_string() })?;
        let languages = Self::languages(chunks);
        let (schema, fields) = schema(&languages);
        let index = Index::create_in_dir(dir, schema).map_err(failed)?;
        register(&index);
        let mut writer = index.writer_with_num_threads::<TantivyDocument>(1, 50_000_000).map_err(failed)?;
        let stems: Vec<Stems> = languages.iter().map(|lang| Stems::of(lang)).collect();
        for (ord, chunk) in chunks.iter().enumerate() {
            let at = languages.iter().position(|lang| *lang == chunk.lang).unwrap_or(0);
            let (own, stems) = (&fields.languages[at], &stems[at]);
            let stemmed = |text: &str| stems.all(text).join(" ");
            let code = code_text(chunk);
            let readable = readable_text(chunk);
            let title = match chunk.questions.is_empty() {
                true => format!("{} {}", chunk.title, chunk.tags.join(" ")),
                false => format!("{} {}", chunk.questions.join(" "), chunk.tags.join(" ")),
            };
            let (above, heading) = match chunk.headings.split_last() {
                Some((own, above)) => (above.join(" "), own.as_str()),
                // What stands above an article's first heading is about its title, but less so than a section is
                // about its own heading: with a heading's full weight, introductions crowd their sections out.
                None if chunk.questions.is_empty() => (chunk.title.clone(), ""),
                None => (String::new(), ""),
            };
            let mut document = TantivyDocument::new();
            document.add_u64(fields.ord, ord as u64);
            document.add_text(fields.kind, kind_name(chunk.kind));
            document.add_text(fields.scope, scope(chunk));
            document.add_text(own.title, stemmed(&title));
            document.add_text(own.heading, stemmed(heading));
            document.add_text(own.above, stemmed(&above));
            document.add_text(own.text, stemmed(&readable));
            document.add_text(fields.code, words(&code).join(" "));
            document.add_text(
                fields.exact,
                compounds(&format!("{title}\n{above}\n{heading}\n{readable}\n{code}")).join(" "),
            );
            writer.add_document(document).map_err(failed)?;
            if (ord + 1).is_multiple_of(PROGRESS_CHUNKS) || ord + 1 == chunks.len() {
                progress(ord + 1);
            }
        }
        writer.commit().map_err(failed)?;
        writer.wait_merging_threads().map_err(failed)
    }

    pub fn open(dir: &Path, chunks: &[std::sync::Arc<Chunk>]) -> Result<Self, KbError> {
        let languages = Self::languages(chunks);
        let index = Index::open_in_dir(dir).map_err(failed)?;
        let (schema, fields) = schema(&languages);
        if index.schema() != schema {
            return Err(KbError::Index("text: the index has other fields than this program writes".into()));
        }
        register(&index);
        let reader = index.reader_builder().reload_policy(ReloadPolicy::Manual).try_into().map_err(failed)?;
        let stems = languages.iter().map(|lang| Stems::of(lang)).collect();
        Ok(Self { reader, fields, stems })
    }

    /// Chunks by BM25, best first: (position, score).
    pub fn search(&self, query: &LexicalQuery<'_>) -> Result<Vec<(u32, f32)>, KbError> {
        let Some(words) = self.words_query(query) else { return Ok(Vec::new()) };
        let mut clauses: Vec<(Occur, Box<dyn Query>)> = vec![(Occur::Must, words)];
        let scopes = std::iter::once(EVERYONE).chain(query.scopes.iter().map(String::as_str));
        clauses.push((Occur::Must, any_of(self.fields.scope, scopes)));
        if !query.kinds.is_empty() {
            clauses.push((Occur::Must, any_of(self.fields.kind, query.kinds.iter().map(|kind| kind_name(*kind)))));
        }
        let searcher = self.reader.searcher();
        let top = TopDocs::with_limit(query.limit.max(1)).order_by_score();
        let found = searcher.search(&BooleanQuery::new(clauses), &top).map_err(failed)?;
        let mut hits = Vec::with_capacity(found.len());
        for (score, address) in found {
            let column = searcher.segment_reader(address.segment_ord).fast_fields().u64("ord").map_err(failed)?;
            if let Some(ord) = column.first(address.doc_id) {
                hits.push((ord as u32, score));
            }
        }
        Ok(hits)
    }

    fn words_query(&self, query: &LexicalQuery<'_>) -> Option<Box<dyn Query>> {
        let all = words(query.text);
        let content: Vec<&String> = all.iter().filter(|word| !is_stop(word)).collect();
        let chosen: Vec<&String> = if content.is_empty() { all.iter().collect() } else { content };
        let mut clauses: Vec<(Occur, Box<dyn Query>)> = Vec::new();
        let mut add = |field: Field, text: &str, boost: f32| {
            let term = TermQuery::new(Term::from_field_text(field, text), IndexRecordOption::WithFreqs);
            clauses.push((Occur::Should, Box::new(BoostQuery::new(Box::new(term), boost))));
        };
        for (own, stems) in self.fields.languages.iter().zip(&self.stems) {
            let weight = if own.lang == query.lang { 1.0 } else { OTHER_LANGUAGE };
            for stem in unique(chosen.iter().map(|word| stems.stem(word))) {
                add(own.title, &stem, TITLE * weight);
                add(own.heading, &stem, HEADING * weight);
                add(own.above, &stem, ABOVE * weight);
                add(own.text, &stem, TEXT * weight);
            }
        }
        for word in unique(chosen.iter().map(|word| word.to_string())) {
            add(self.fields.code, &word, CODE);
        }
        for token in unique(compounds(query.text).into_iter()) {
            add(self.fields.exact, &token, EXACT);
        }
        (!clauses.is_empty()).then(|| Box::new(BooleanQuery::new(clauses)) as Box<dyn Query>)
    }
}

fn unique(words: impl Iterator<Item = String>) -> Vec<String> {
    let mut seen = BTreeSet::new();
    words.filter(|word| seen.insert(word.clone())).take(MAX_TERMS).collect()
}

/// Documents that have one of the terms; adds nothing to the score.
fn any_of<'a>(field: Field, terms: impl Iterator<Item = &'a str>) -> Box<dyn Query> {
    let term = |text: &str| TermQuery::new(Term::from_field_text(field, text), IndexRecordOption::Basic);
    let clauses = terms.map(|text| (Occur::Should, Box::new(term(text)) as Box<dyn Query>)).collect();
    Box::new(ConstScoreQuery::new(Box::new(BooleanQuery::new(clauses)), 0.0))
}

fn register(index: &Index) {
    index.tokenizers().register("stems", WhitespaceTokenizer::default());
}

fn kind_name(kind: SourceKind) -> &'static str {
    match kind {
        SourceKind::Article => "article",
        SourceKind::Faq => "faq",
        SourceKind::AppMap => "app_map",
        SourceKind::Instruction => "instruction",
        SourceKind::Example => "example",
    }
}

fn failed(e: impl std::fmt::Display) -> KbError {
    KbError::Index(format!("text: {e}"))
}
