#!/bin/sh
set -e
cd /var/www/shop
git pull --ff-only
php bin/migrate.php
sudo service nginx reload
