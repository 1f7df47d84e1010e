//! HTTP: the OpenAI wire types, streaming, authentication, errors, and the test-chat page.
