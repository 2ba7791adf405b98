python3 report.py
vi report.py
python3 report.py > orders.csv
ls -la
exit
