# What the network login shows.
if [ -t 1 ] && [ -n "$PS1" ] && [ ! -e "$HOME/.hushlogin" ]; then
    cat /etc/motd 2>/dev/null
fi
