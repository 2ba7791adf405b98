ls
cd /var/www/shop
git status
git pull
sudo systemctl reload nginx
tail -n 50 /var/log/nginx/access.log
less config.php
mysql -u shop -p shop
cd
vi todo.txt
exit
