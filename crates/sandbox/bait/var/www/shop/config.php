<?php
// Values for this machine. Not in version control.
define('BASE_URL', 'https://shop.example.com');
define('DB_HOST', 'localhost');
define('DB_NAME', 'shop');
define('DB_USER', 'shop');
define('DB_PASS', 'Regenschirm-Oktober4');
define('MAIL_FROM', 'orders@example.com');
define('ADMIN_PASS', 'winterblau19');

function db(): PDO
{
    return new PDO('mysql:host=' . DB_HOST . ';dbname=' . DB_NAME, DB_USER, DB_PASS);
}
