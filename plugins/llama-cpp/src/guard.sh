# Started by `process.rs`, which says what this is for. Standard input is a pipe that the host holds open
# as long as it lives; "$@" is the server.
exec 3<&0 </dev/null
"$@" >&2 3<&- &
server=$!
(
    trap '' HUP INT QUIT TERM
    read -r _ <&3
    kill -KILL "$server"
) >/dev/null 2>&1 &
watcher=$!
exec 3<&-
wait "$server"
status=$?
kill -KILL "$watcher" 2>/dev/null
exit "$status"
