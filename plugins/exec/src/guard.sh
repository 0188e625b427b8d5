# Started by `guard.rs`, which says what this is for. Standard input tells process groups as they
# begin (+ID) and end (-ID), and ends with the host; $1 is what every mark of the host contains.
trap '' HUP INT QUIT TERM PIPE TSTP TTIN TTOU
open=' '
while read -r line; do
    case $line in
    +*) open="$open${line#+} " ;;
    -*) open="${open%% "${line#-}" *} ${open#* "${line#-}" }" ;;
    esac
done
for group in $open; do
    kill -KILL "-$group"
done
# Twice without a find, for a process that was just being started has no mark yet.
clean=0
pass=0
while [ "$clean" -lt 2 ] && [ "$pass" -lt 100 ]; do
    pass=$((pass + 1))
    clean=$((clean + 1))
    for file in $(grep -lsF "$1" /proc/[0-9]*/environ); do
        id=${file#/proc/}
        id=${id%/environ}
        # With the group that it leads, which may not have been told yet.
        kill -KILL "-$id"
        kill -KILL "$id" && clean=0
    done
    sleep 0.1
done
exit 0
