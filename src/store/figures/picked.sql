-- The conversations that are asked for, each with its outcome.
-- $1 from, $2 to (ms; the beginning counts), $3 operator, $4 version, $5 channel (NULL: all),
-- $6 rows by: day, operator, version, channel, all; $7 now (ms); $8 the clock's offset from UTC (ms)
WITH picked AS (
    SELECT f.*,
           CASE $6 WHEN 'day'      THEN CAST((started_ms + $8) / 86400000 AS TEXT)
                   WHEN 'operator' THEN COALESCE(operator, '')
                   WHEN 'version'  THEN COALESCE(operator, '') || '/' || COALESCE(operator_version, '')
                   WHEN 'channel'  THEN COALESCE(channel, '')
                   ELSE '' END AS row_key,
           CASE WHEN subject <> 'request'       THEN subject
                -- ended by a person, or waiting for one
                WHEN person = 1                 THEN 'person'
                WHEN said_solved = 1            THEN 'confirmed'
                WHEN said_solved = 0            THEN 'unresolved'
                -- less than 24 hours of silence: nobody knows yet
                WHEN last_ms > $7 - 86400000    THEN 'open'
                WHEN answered_last = 1          THEN 'assumed'
                -- left after a question back, or in the middle of an answer
                ELSE 'unresolved' END AS outcome
      FROM conversation_figures f
     WHERE started_ms >= $1 AND started_ms < $2
       AND ($3 IS NULL OR operator = $3) AND ($4 IS NULL OR operator_version = $4) AND ($5 IS NULL OR channel = $5)
)
