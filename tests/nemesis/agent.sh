#!/bin/sh
# An agent of the nemesis, in place of the CLI. Its prompt is one line: PLAY STEPS. It prints numbered lines that bear a
# mark of its own, and each of its processes writes down every 100 ms that it lives.

read -r play steps
read -r mark </proc/sys/kernel/random/uuid
line=0 step=0

beat() {
    read -r up _ </proc/uptime
    echo "$1 $up" >>/workspace/beats
}

say() {
    line=$((line + 1))
    echo "line $line $mark"
}

result() {
    echo '{"type":"result","subtype":"'"$1"'","is_error":'"$2"',"num_turns":1,"total_cost_usd":0.01,"result":"'"$mark"'"}'
}

tick() {
    beat main
    [ $((step % 5)) != 0 ] || say
    step=$((step + 1))
    sleep 0.1
}

ticks() { while [ "$step" -lt "$1" ]; do tick; done; }
for_ever() { while :; do tick; done; }

obey() {
    trap 'result error_during_execution true; exit 1' INT
    trap 'exit 143' TERM
}

child() {
    trap '' INT TERM HUP
    while :; do
        beat "$1"
        sleep 0.1
    done
}

case $play in
quick)
    obey
    ticks "$steps"
    result success false
    ;;
crash)
    ticks "$steps"
    exit 3
    ;;
long)
    obey
    for_ever
    ;;
stubborn)
    trap '' INT TERM HUP
    for_ever
    ;;
late)
    trap 'step=0; ticks 6; result success false; exit 0' INT
    for_ever
    ;;
forks)
    (child orphan &)
    setsid /bin/claude-child &
    obey
    for_ever
    ;;
flood)
    beat main
    awk -v n="$steps" -v mark="$mark" 'BEGIN { for (i = 1; i <= n; i++) print "line " i " " mark }'
    result success false
    ;;
lingers)
    ticks "$steps"
    result success false
    trap '' INT
    while :; do
        beat main
        sleep 0.1
    done
    ;;
*)
    echo "no play $play" >&2
    exit 64
    ;;
esac
