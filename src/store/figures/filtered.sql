SELECT p.row_key, f.kind, CAST(SUM(f.messages) AS BIGINT) AS messages
  FROM picked p JOIN filtered_figures f ON f.group_id = p.group_id GROUP BY p.row_key, f.kind ORDER BY messages DESC, f.kind
