//! Staff: accounts, join links, sessions.

use serde::Serialize;
use sqlx::{Sqlite, Transaction};

use super::append::now_ms;
use super::{Store, StoreError};

/// An account, without its password.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StaffMember {
    pub id: String,
    pub login: String,
    pub name: String,
    /// `operator` or `lead`
    pub role: String,
    /// Empty: every team.
    pub teams: Vec<String>,
    pub active: bool,
}

/// What a join link grants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinLink {
    pub name: String,
    pub role: String,
    pub teams: Vec<String>,
}

/// A live session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    pub staff: StaffMember,
    pub csrf: String,
    pub seen_ms: i64,
}

/// Why an account was not made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JoinFault {
    /// No such link, used up, or too old.
    Link,
    LoginTaken,
}

type StaffRow = (String, String, String, String, String, bool);

const COLUMNS: &str = "id, login, name, role, teams, active";

fn member((id, login, name, role, teams, active): StaffRow) -> StaffMember {
    StaffMember { id, login, name, role, teams: serde_json::from_str(&teams).unwrap_or_default(), active }
}

impl Store {
    /// How many accounts there are.
    pub async fn staff_count(&self) -> Result<i64, StoreError> {
        Ok(sqlx::query_scalar("SELECT COUNT(*) FROM staff").fetch_one(&self.pool).await?)
    }

    /// All accounts, by name.
    pub async fn staff(&self) -> Result<Vec<StaffMember>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM staff ORDER BY name, login");
        let rows: Vec<StaffRow> = sqlx::query_as(sqlx::AssertSqlSafe(sql)).fetch_all(&self.pool).await?;
        Ok(rows.into_iter().map(member).collect())
    }

    /// An account with its password's hash, by login.
    pub async fn staff_by_login(&self, login: &str) -> Result<Option<(StaffMember, String)>, StoreError> {
        let sql = format!("SELECT {COLUMNS}, password_hash FROM staff WHERE login = $1");
        let row: Option<(String, String, String, String, String, bool, String)> =
            sqlx::query_as(sqlx::AssertSqlSafe(sql)).bind(login).fetch_optional(&self.pool).await?;
        Ok(row
            .map(|(id, login, name, role, teams, active, hash)| (member((id, login, name, role, teams, active)), hash)))
    }

    /// Makes a link. The first lead's replaces all earlier ones of its kind (`first`).
    pub async fn add_join_link(
        &self,
        token_hash: &str,
        link: &JoinLink,
        expires_ms: Option<i64>,
        first: bool,
    ) -> Result<(), StoreError> {
        let mut tx = self.write().await?;
        if first {
            sqlx::query("DELETE FROM join_links WHERE used_by IS NULL AND expires_ms IS NULL")
                .execute(&mut *tx)
                .await?;
        }
        sqlx::query(
            "INSERT INTO join_links (token_hash, name, role, teams, created_ms, expires_ms)
             VALUES ($1, $2, $3, $4, $5, $6)",
        )
        .bind(token_hash)
        .bind(&link.name)
        .bind(&link.role)
        .bind(serde_json::json!(link.teams).to_string())
        .bind(now_ms())
        .bind(expires_ms)
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(())
    }

    /// Uses a link up and makes the account that it grants, at once.
    pub async fn join(
        &self,
        token_hash: &str,
        name: &str,
        login: &str,
        password_hash: &str,
    ) -> Result<Result<StaffMember, JoinFault>, StoreError> {
        let mut tx = self.write().await?;
        let link: Option<(String, String, String)> = sqlx::query_as(
            "SELECT name, role, teams FROM join_links
              WHERE token_hash = $1 AND used_by IS NULL AND (expires_ms IS NULL OR expires_ms > $2)",
        )
        .bind(token_hash)
        .bind(now_ms())
        .fetch_optional(&mut *tx)
        .await?;
        let Some((link_name, role, teams)) = link else { return Ok(Err(JoinFault::Link)) };
        let taken: i64 =
            sqlx::query_scalar("SELECT COUNT(*) FROM staff WHERE login = $1").bind(login).fetch_one(&mut *tx).await?;
        if taken > 0 {
            return Ok(Err(JoinFault::LoginTaken));
        }
        let name = if name.is_empty() { link_name } else { name.to_string() };
        let id = uuid::Uuid::now_v7().to_string();
        sqlx::query(
            "INSERT INTO staff (id, login, name, role, teams, password_hash, active, created_ms)
             VALUES ($1, $2, $3, $4, $5, $6, 1, $7)",
        )
        .bind(&id)
        .bind(login)
        .bind(&name)
        .bind(&role)
        .bind(&teams)
        .bind(password_hash)
        .bind(now_ms())
        .execute(&mut *tx)
        .await?;
        sqlx::query("UPDATE join_links SET used_by = $2 WHERE token_hash = $1")
            .bind(token_hash)
            .bind(&id)
            .execute(&mut *tx)
            .await?;
        tx.commit().await?;
        Ok(Ok(member((id, login.to_string(), name, role, teams, true))))
    }

    /// Changes an account; `None`: there is none. Refuses (`Some(false)`) what would leave no active lead. Who is no
    /// longer active is logged out.
    pub async fn change_staff(
        &self,
        id: &str,
        role: Option<&str>,
        active: Option<bool>,
        teams: Option<&[String]>,
    ) -> Result<Option<bool>, StoreError> {
        let mut tx = self.write().await?;
        let done = sqlx::query(
            "UPDATE staff SET role = COALESCE($2, role), active = COALESCE($3, active), teams = COALESCE($4, teams)
              WHERE id = $1",
        )
        .bind(id)
        .bind(role)
        .bind(active)
        .bind(teams.map(|teams| serde_json::json!(teams).to_string()))
        .execute(&mut *tx)
        .await?;
        if done.rows_affected() == 0 {
            return Ok(None);
        }
        let leads: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM staff WHERE role = 'lead' AND active = 1")
            .fetch_one(&mut *tx)
            .await?;
        if leads == 0 {
            return Ok(Some(false));
        }
        if active == Some(false) {
            log_out_all(&mut tx, id, "").await?;
        }
        tx.commit().await?;
        Ok(Some(true))
    }

    /// Sets a password and ends all sessions but the one that did it.
    pub async fn set_password(&self, id: &str, password_hash: &str, session: &str) -> Result<(), StoreError> {
        let mut tx = self.write().await?;
        sqlx::query("UPDATE staff SET password_hash = $2 WHERE id = $1")
            .bind(id)
            .bind(password_hash)
            .execute(&mut *tx)
            .await?;
        log_out_all(&mut tx, id, session).await?;
        tx.commit().await?;
        Ok(())
    }

    /// Begins a session; expired ones go.
    pub async fn add_session(&self, id_hash: &str, staff: &str, csrf: &str, live_ms: i64) -> Result<(), StoreError> {
        let now = now_ms();
        let mut tx = self.write().await?;
        sqlx::query("DELETE FROM sessions WHERE expires_ms <= $1").bind(now).execute(&mut *tx).await?;
        sqlx::query(
            "INSERT INTO sessions (id_hash, staff_id, csrf, created_ms, seen_ms, expires_ms)
             VALUES ($1, $2, $3, $4, $4, $5)",
        )
        .bind(id_hash)
        .bind(staff)
        .bind(csrf)
        .bind(now)
        .bind(now + live_ms)
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(())
    }

    /// A session of an active account that has not expired.
    pub async fn session(&self, id_hash: &str) -> Result<Option<Session>, StoreError> {
        let row: Option<(String, String, String, String, String, bool, String, i64)> = sqlx::query_as(
            "SELECT s.id, s.login, s.name, s.role, s.teams, s.active, n.csrf, n.seen_ms
               FROM sessions n JOIN staff s ON s.id = n.staff_id
              WHERE n.id_hash = $1 AND n.expires_ms > $2 AND s.active = 1",
        )
        .bind(id_hash)
        .bind(now_ms())
        .fetch_optional(&self.pool)
        .await?;
        Ok(row.map(|(id, login, name, role, teams, active, csrf, seen_ms)| Session {
            staff: member((id, login, name, role, teams, active)),
            csrf,
            seen_ms,
        }))
    }

    /// A session that is in use lives on.
    pub async fn renew_session(&self, id_hash: &str, live_ms: i64) -> Result<(), StoreError> {
        sqlx::query("UPDATE sessions SET seen_ms = $2, expires_ms = $3 WHERE id_hash = $1")
            .bind(id_hash)
            .bind(now_ms())
            .bind(now_ms() + live_ms)
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    pub async fn end_session(&self, id_hash: &str) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM sessions WHERE id_hash = $1").bind(id_hash).execute(&self.pool).await?;
        Ok(())
    }
}

async fn log_out_all(tx: &mut Transaction<'static, Sqlite>, staff: &str, but: &str) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM sessions WHERE staff_id = $1 AND id_hash <> $2")
        .bind(staff)
        .bind(but)
        .execute(&mut **tx)
        .await?;
    Ok(())
}
