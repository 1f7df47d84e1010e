//! Files that came through the API, the vector stores that they are attached to, and how far each is indexed.

use sqlx::Row;

use super::append::now_ms;
use super::{Store, StoreError};

/// An uploaded file, without its content.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct FileRow {
    pub id: String,
    /// The key that uploaded it.
    pub key_name: String,
    pub filename: String,
    pub purpose: String,
    pub bytes: i64,
    pub created_ms: i64,
    pub expires_ms: Option<i64>,
}

/// A vector store.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct VectorStoreRow {
    pub id: String,
    pub key_name: String,
    pub name: String,
    /// JSON
    pub metadata: String,
    pub created_ms: i64,
    pub last_active_ms: i64,
    /// After the last activity; `None`: never.
    pub expire_days: Option<i64>,
}

/// A file of a vector store.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct AttachedRow {
    pub store_id: String,
    pub file_id: String,
    pub filename: String,
    /// JSON
    pub attributes: String,
    pub created_ms: i64,
    /// `in_progress`, `completed`, `failed`, `cancelled`
    pub status: String,
    pub usage_bytes: i64,
    pub error_code: Option<String>,
    pub error: Option<String>,
    pub batch_id: Option<String>,
}

/// What is there in all, to hold limits against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LibrarySize {
    pub files: i64,
    pub bytes: i64,
}

/// What indexing a file came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Indexed {
    Completed { usage_bytes: i64 },
    Failed { code: &'static str, reason: String },
}

const ATTACHED: &str = "SELECT v.store_id, v.file_id, f.filename, v.attributes, v.created_ms, v.status, v.usage_bytes,
                               v.error_code, v.error, v.batch_id
                          FROM vector_store_files v JOIN files f ON f.id = v.file_id";

impl Store {
    /// Keeps a file; when this returns, it survives a crash.
    pub async fn add_file(&self, file: &FileRow, content: &[u8]) -> Result<(), StoreError> {
        let mut tx = self.write().await?;
        sqlx::query(
            "INSERT INTO files (id, key_name, filename, purpose, bytes, created_ms, expires_ms)
             VALUES ($1, $2, $3, $4, $5, $6, $7)",
        )
        .bind(&file.id)
        .bind(&file.key_name)
        .bind(&file.filename)
        .bind(&file.purpose)
        .bind(file.bytes)
        .bind(file.created_ms)
        .bind(file.expires_ms)
        .execute(&mut *tx)
        .await?;
        sqlx::query("INSERT INTO file_contents (file_id, content) VALUES ($1, $2)")
            .bind(&file.id)
            .bind(content)
            .execute(&mut *tx)
            .await?;
        tx.commit().await?;
        Ok(())
    }

    /// A key's files, oldest first, without those whose time is over.
    pub async fn files(&self, key_name: &str) -> Result<Vec<FileRow>, StoreError> {
        let rows = sqlx::query_as(
            "SELECT id, key_name, filename, purpose, bytes, created_ms, expires_ms FROM files
              WHERE key_name = $1 AND (expires_ms IS NULL OR expires_ms > $2) ORDER BY created_ms, id",
        );
        Ok(rows.bind(key_name).bind(now_ms()).fetch_all(&self.pool).await?)
    }

    /// One file of a key.
    pub async fn file(&self, key_name: &str, id: &str) -> Result<Option<FileRow>, StoreError> {
        let row = sqlx::query_as(
            "SELECT id, key_name, filename, purpose, bytes, created_ms, expires_ms FROM files
              WHERE id = $1 AND key_name = $2 AND (expires_ms IS NULL OR expires_ms > $3)",
        );
        Ok(row.bind(id).bind(key_name).bind(now_ms()).fetch_optional(&self.pool).await?)
    }

    /// What was uploaded, byte for byte.
    pub async fn file_content(&self, id: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let content = sqlx::query_scalar("SELECT content FROM file_contents WHERE file_id = $1");
        Ok(content.bind(id).fetch_optional(&self.pool).await?)
    }

    /// Deletes a file, also from vector stores; the ids of those.
    pub async fn delete_file(&self, id: &str) -> Result<Vec<String>, StoreError> {
        let mut tx = self.write().await?;
        let stores = sqlx::query_scalar("SELECT store_id FROM vector_store_files WHERE file_id = $1");
        let stores = stores.bind(id).fetch_all(&mut *tx).await?;
        sqlx::query("DELETE FROM files WHERE id = $1").bind(id).execute(&mut *tx).await?;
        tx.commit().await?;
        Ok(stores)
    }

    /// Files whose time is over, of all keys.
    pub async fn expired_files(&self) -> Result<Vec<String>, StoreError> {
        let ids = sqlx::query_scalar("SELECT id FROM files WHERE expires_ms <= $1");
        Ok(ids.bind(now_ms()).fetch_all(&self.pool).await?)
    }

    /// All keys' files together.
    pub async fn library_size(&self) -> Result<LibrarySize, StoreError> {
        let row = sqlx::query("SELECT COUNT(*), COALESCE(SUM(bytes), 0) FROM files").fetch_one(&self.pool).await?;
        Ok(LibrarySize { files: row.try_get(0)?, bytes: row.try_get(1)? })
    }

    /// Adds a vector store; nothing happens where its id is there already.
    pub async fn add_vector_store(&self, store: &VectorStoreRow) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO vector_stores (id, key_name, name, metadata, created_ms, last_active_ms, expire_days)
             VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (id) DO NOTHING",
        )
        .bind(&store.id)
        .bind(&store.key_name)
        .bind(&store.name)
        .bind(&store.metadata)
        .bind(store.created_ms)
        .bind(store.last_active_ms)
        .bind(store.expire_days)
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// All vector stores of all keys, oldest first.
    pub async fn vector_stores(&self) -> Result<Vec<VectorStoreRow>, StoreError> {
        let rows = sqlx::query_as(
            "SELECT id, key_name, name, metadata, created_ms, last_active_ms, expire_days FROM vector_stores
              ORDER BY created_ms, id",
        );
        Ok(rows.fetch_all(&self.pool).await?)
    }

    /// Writes a vector store's name, metadata and expiry, and that it was used now.
    pub async fn update_vector_store(&self, store: &VectorStoreRow) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE vector_stores SET name = $2, metadata = $3, expire_days = $4, last_active_ms = $5 WHERE id = $1",
        )
        .bind(&store.id)
        .bind(&store.name)
        .bind(&store.metadata)
        .bind(store.expire_days)
        .bind(now_ms())
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// Notes that a vector store was used now.
    pub async fn touch_vector_store(&self, id: &str) -> Result<(), StoreError> {
        let touched = sqlx::query("UPDATE vector_stores SET last_active_ms = $2 WHERE id = $1");
        touched.bind(id).bind(now_ms()).execute(&self.pool).await?;
        Ok(())
    }

    /// Deletes a vector store; its files stay.
    pub async fn delete_vector_store(&self, id: &str) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM vector_stores WHERE id = $1").bind(id).execute(&self.pool).await?;
        Ok(())
    }

    /// Attaches files, all or none, to be indexed. A file that is attached already is indexed anew.
    pub async fn attach_files(
        &self,
        store_id: &str,
        files: &[(String, String)],
        batch_id: Option<&str>,
    ) -> Result<(), StoreError> {
        let mut tx = self.write().await?;
        for (file_id, attributes) in files {
            sqlx::query(
                "INSERT INTO vector_store_files (store_id, file_id, attributes, created_ms, status, batch_id)
                 VALUES ($1, $2, $3, $4, 'in_progress', $5)
                 ON CONFLICT (store_id, file_id) DO UPDATE SET attributes = $3, status = 'in_progress', batch_id = $5,
                             error = NULL, error_code = NULL",
            )
            .bind(store_id)
            .bind(file_id)
            .bind(attributes)
            .bind(now_ms())
            .bind(batch_id)
            .execute(&mut *tx)
            .await?;
        }
        let touched = sqlx::query("UPDATE vector_stores SET last_active_ms = $2 WHERE id = $1");
        touched.bind(store_id).bind(now_ms()).execute(&mut *tx).await?;
        tx.commit().await?;
        Ok(())
    }

    /// Files of a vector store, oldest first.
    pub async fn attached_files(&self, store_id: &str) -> Result<Vec<AttachedRow>, StoreError> {
        let sql = sqlx::AssertSqlSafe(format!("{ATTACHED} WHERE v.store_id = $1 ORDER BY v.created_ms, v.file_id"));
        Ok(sqlx::query_as(sql).bind(store_id).fetch_all(&self.pool).await?)
    }

    /// Changes what is said of a file; indexing is not touched.
    pub async fn set_file_attributes(&self, store_id: &str, file_id: &str, attributes: &str) -> Result<(), StoreError> {
        sqlx::query("UPDATE vector_store_files SET attributes = $3 WHERE store_id = $1 AND file_id = $2")
            .bind(store_id)
            .bind(file_id)
            .bind(attributes)
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    /// Takes a file out of a vector store.
    pub async fn detach_file(&self, store_id: &str, file_id: &str) -> Result<(), StoreError> {
        let gone = sqlx::query("DELETE FROM vector_store_files WHERE store_id = $1 AND file_id = $2");
        gone.bind(store_id).bind(file_id).execute(&self.pool).await?;
        Ok(())
    }

    /// Gives up files of a batch that are not indexed yet.
    pub async fn cancel_batch(&self, store_id: &str, batch_id: &str) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE vector_store_files SET status = 'cancelled'
              WHERE store_id = $1 AND batch_id = $2 AND status = 'in_progress'",
        )
        .bind(store_id)
        .bind(batch_id)
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// Notes what indexing came to, unless the file was given up or attached anew meanwhile.
    pub async fn file_indexed(&self, row: &AttachedRow, outcome: &Indexed) -> Result<(), StoreError> {
        let (status, usage, code, reason) = match outcome {
            Indexed::Completed { usage_bytes } => ("completed", *usage_bytes, None, None),
            Indexed::Failed { code, reason } => ("failed", 0, Some(*code), Some(reason.as_str())),
        };
        sqlx::query(
            "UPDATE vector_store_files SET status = $3, usage_bytes = $4, error_code = $5, error = $6
              WHERE store_id = $1 AND file_id = $2 AND status = 'in_progress'",
        )
        .bind(&row.store_id)
        .bind(&row.file_id)
        .bind(status)
        .bind(usage)
        .bind(code)
        .bind(reason)
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// Vector stores with files that are to be indexed.
    pub async fn unfinished_vector_stores(&self) -> Result<Vec<String>, StoreError> {
        let ids = sqlx::query_scalar("SELECT DISTINCT store_id FROM vector_store_files WHERE status = 'in_progress'");
        Ok(ids.fetch_all(&self.pool).await?)
    }
}
