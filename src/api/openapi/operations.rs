//! The operations of the API and their parameters: what is taken, what is taken without effect, what is refused.
//!
//! `tests/clients/parameters.py` sends each of them to a running server, with good and with bad values, and compares the
//! list with `docs/api.md` and with the official client's own types.

/// One operation.
pub struct Operation {
    pub method: &'static str,
    pub path: &'static str,
    /// What it does.
    pub summary: &'static str,
    /// Fields of the body, a word each: `name:type`, with `*` behind those that must be, `~` behind those without effect.
    pub fields: &'static str,
    /// Fields of OpenAI's API, or of others', that are refused by name.
    pub refused: &'static str,
    /// Parameters of the query, as fields.
    pub query: &'static str,
}

const SAMPLING: &str = "temperature:number top_p:number top_k:integer min_p:number repetition_penalty:number \
                        presence_penalty:number frequency_penalty:number logit_bias:object seed:integer";
const PAGES: &str = "limit:integer order:string after:string before:string";

const fn get(path: &'static str, summary: &'static str) -> Operation {
    Operation { method: "get", path, summary, fields: "", refused: "", query: "" }
}

const fn delete(path: &'static str, summary: &'static str) -> Operation {
    Operation { method: "delete", ..get(path, summary) }
}

const fn post(path: &'static str, summary: &'static str, fields: &'static str, refused: &'static str) -> Operation {
    Operation { method: "post", fields, refused, ..get(path, summary) }
}

const fn paged(path: &'static str, summary: &'static str, query: &'static str) -> Operation {
    Operation { query, ..get(path, summary) }
}

impl Operation {
    /// All fields of the body.
    pub fn body(&self) -> impl Iterator<Item = &'static str> {
        let sampled = matches!(self.path, "/v1/chat/completions" | "/v1/completions") && self.method == "post";
        self.fields.split_whitespace().chain(if sampled { SAMPLING } else { "" }.split_whitespace())
    }

    /// All parameters of the query.
    pub fn in_query(&self) -> impl Iterator<Item = &'static str> {
        self.query.split_whitespace().flat_map(|word| if word == "PAGES" { PAGES } else { word }.split_whitespace())
    }
}

pub const OPERATIONS: &[Operation] = &[
    post(
        "/v1/chat/completions",
        "A support turn, or an answer of the bare chat model",
        "model:string* messages:array* stream:boolean stream_options:object max_tokens:integer \
         max_completion_tokens:integer stop:any n:integer logprobs:boolean top_logprobs:integer tools:array \
         tool_choice:any parallel_tool_calls:boolean response_format:object reasoning_effort:string \
         chat_template_kwargs:object metadata:object modalities:array store:boolean user:string~ \
         safety_identifier:string~ prompt_cache_key:string~ prompt_cache_retention:string~ \
         prompt_cache_options:object~ service_tier:string~",
        "audio functions function_call prediction verbosity web_search_options moderation best_of",
    ),
    post(
        "/v1/responses",
        "The same as items",
        "model:string* input:any* instructions:string previous_response_id:string max_output_tokens:integer \
         temperature:number top_p:number top_k:integer min_p:number seed:integer stop:any include:array \
         top_logprobs:integer tools:array tool_choice:any parallel_tool_calls:boolean text:object reasoning:object \
         metadata:object stream:boolean store:boolean background:boolean truncation:string user:string~ \
         safety_identifier:string~ prompt_cache_key:string~ prompt_cache_retention:string~ \
         prompt_cache_options:object~ service_tier:string~ stream_options:object~",
        "conversation prompt max_tool_calls context_management moderation image access_programs access_policy",
    ),
    get("/v1/responses/{id}", "A response that is kept"),
    delete("/v1/responses/{id}", "Forgets a response"),
    post(
        "/v1/completions",
        "The bare model continues a text",
        "model:string* prompt:any* stream:boolean stream_options:object max_tokens:integer \
         max_completion_tokens:integer stop:any n:integer logprobs:integer echo:boolean best_of:integer user:string~",
        "suffix",
    ),
    post(
        "/v1/embeddings",
        "Vectors",
        "model:string* input:any* encoding_format:string dimensions:integer input_type:string truncate:boolean \
         user:string~",
        "",
    ),
    post(
        "/v1/rerank",
        "Documents in the order in which they answer a query",
        "model:string query:string* documents:array* top_n:integer return_documents:boolean user:string~",
        "max_chunks_per_doc max_tokens_per_doc rank_fields",
    ),
    post(
        "/v1/tokenize",
        "A text or a conversation in the chat model's tokens",
        "model:string prompt:string messages:array tools:array tool_choice:any parallel_tool_calls:boolean \
         add_special_tokens:boolean return_token_strs:boolean",
        "",
    ),
    post(
        "/v1/files",
        "Uploads a file (a form) to be searched",
        "file:file* purpose:string* expires_after[anchor]:string expires_after[seconds]:integer",
        "",
    ),
    paged("/v1/files", "This key's files", "PAGES purpose:string"),
    get("/v1/files/{id}", "One of them"),
    delete("/v1/files/{id}", "Deletes it, also from vector stores"),
    get("/v1/files/{id}/content", "Its bytes"),
    post(
        "/v1/vector_stores",
        "A set of files that is searched",
        "name:string file_ids:array expires_after:object metadata:object chunking_strategy:object",
        "description",
    ),
    paged("/v1/vector_stores", "This key's vector stores, and `vs_pack`, the knowledge pack", "PAGES"),
    get("/v1/vector_stores/{id}", "One of them"),
    post(
        "/v1/vector_stores/{id}",
        "Changes its name, metadata or expiry",
        "name:string expires_after:object metadata:object",
        "description",
    ),
    delete("/v1/vector_stores/{id}", "Deletes it; its files stay"),
    post(
        "/v1/vector_stores/{id}/search",
        "Passages that fit, best first",
        "query:any* filters:object max_num_results:integer ranking_options:object rewrite_query:boolean",
        "",
    ),
    post(
        "/v1/vector_stores/{id}/files",
        "Attaches a file",
        "file_id:string* attributes:object chunking_strategy:object",
        "",
    ),
    paged("/v1/vector_stores/{id}/files", "Its files, and how far they are indexed", "PAGES filter:string"),
    get("/v1/vector_stores/{id}/files/{file}", "One of them"),
    post("/v1/vector_stores/{id}/files/{file}", "Changes its attributes", "attributes:object*", ""),
    delete("/v1/vector_stores/{id}/files/{file}", "Takes it out; the file stays"),
    get("/v1/vector_stores/{id}/files/{file}/content", "The text that was read of it"),
    post(
        "/v1/vector_stores/{id}/file_batches",
        "Attaches several files",
        "file_ids:array files:array attributes:object chunking_strategy:object",
        "",
    ),
    get("/v1/vector_stores/{id}/file_batches/{batch}", "How far they are"),
    post("/v1/vector_stores/{id}/file_batches/{batch}/cancel", "Gives up what is not indexed yet", "", ""),
    paged("/v1/vector_stores/{id}/file_batches/{batch}/files", "The files of a batch", "PAGES filter:string"),
    get("/v1/models", "What this key may use"),
    get("/v1/models/{id}", "One of them"),
    post(
        "/v1/channels/{name}/messages",
        "A customer's message from a messenger bridge or a mail gateway; the reply goes out by signed webhook",
        "id:string* customer:object* text:string* metadata:object",
        "",
    ),
    paged(
        "/v1/support/figures",
        "Resolution, turns, times and costs, by day, operator, version or channel",
        "from:integer to:integer operator:string version:string channel:string by:string format:string",
    ),
    get("/v1/support/trace/{id}", "Why an answer is what it is"),
    get("/health/live", "The process answers"),
    get("/health/ready", "It serves; 503 while loading and stopping"),
    get("/metrics", "Figures for Prometheus"),
];
