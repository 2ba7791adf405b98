<?php
require __DIR__ . '/config.php';
require __DIR__ . '/lib/front.php';

Front::handle($_SERVER['REQUEST_URI'], db());
