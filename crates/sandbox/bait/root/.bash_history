apt update
apt upgrade
df -h
systemctl status nginx
vi /etc/nginx/sites-available/shop
nginx -t
systemctl reload nginx
tail -f /var/log/nginx/error.log
mysql shop
mysqldump shop | gzip > /var/backups/shop.sql.gz
ls -lh /var/backups
cat /root/.my.cnf
./backup.sh
crontab -l
adduser reports
passwd reports
usermod -aG adm webadmin
ss -tlnp
free -m
top
cd /var/www/shop
grep -rn DB_PASS .
vi config.php
chown -R www-data: .
ssh deploy@db01.example.com
scp /var/backups/shop.sql.gz backup@192.0.2.40:/srv/backup/
last
exit
