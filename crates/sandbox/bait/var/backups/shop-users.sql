-- users of shop, for the move to db01
INSERT INTO users (id, name, email, role) VALUES
  (1, 'marta', 'marta@example.com', 'admin'),
  (2, 'jonas', 'jonas@example.com', 'report'),
  (3, 'shop front', 'orders@example.com', 'service');
