-- users of shop, for the move to db01
INSERT INTO users (id, name, email, role) VALUES
  (1, 'webadmin', 'webadmin@example.com', 'admin'),
  (2, 'reports', 'reports@example.com', 'report'),
  (3, 'shop front', 'orders@example.com', 'service');
