<?php
require __DIR__ . '/config.php';
db()->exec('DELETE FROM carts WHERE touched < NOW() - INTERVAL 14 DAY');
