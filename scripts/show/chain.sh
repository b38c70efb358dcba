# The whole chain, on one machine: two nodes of weir with one address between them, two virtual hosts, a master machine and linked clones of it.
#
#   client ──► address ◄── lb-a | lb-b ──► clones on kvm-a and kvm-b
#
# The load rises until an alarm goes off and clones join; the node that has the address is killed; a machine is killed; the load falls and machines
# drain away. Each act is printed with what the clients saw of it.
# shellcheck shell=bash disable=SC2154 # what scripts/quickstart sets

STEPS=10
# Requests a second: what two machines bear, and what they do not.
CALM=30
BUSY=90
# Machines at least and at most.
FEW=2
MANY=4
# Bytes that must be free: guests and their hosts' disks live in memory; an image and a build on disk.
MEMORY_MIB=3072
DISK_MIB=3072
# A machine is emulated where there is no KVM, and its boot shares the processors with everything else.
BOOTS=240

now() { date +%s.%3N; }
# since MOMENT: seconds from then to now.
since() { awk -v from="$1" -v to="$(now)" 'BEGIN { printf "%.1f", to - from }'; }

# ago SECONDS: the moment so long before now.
ago() { awk -v now="$(now)" -v seconds="$1" 'BEGIN { printf "%.3f", now - seconds }'; }

# What cannot be done without, all at once.
what_is_needed() {
    local missing=() free target=${CARGO_TARGET_DIR:-target}
    ((EUID == 0)) || missing+=("root: it makes network namespaces and virtual machines; run: sudo scripts/quickstart")
    [[ $(uname -m) == x86_64 ]] || missing+=("an x86-64 machine: its guests have a kernel for that")
    free=$(($(sed -n 's/^MemAvailable: *\([0-9]*\) kB/\1/p' /proc/meminfo) / 1024))
    ((free >= MEMORY_MIB)) || missing+=("memory: $free MiB are free, $MEMORY_MIB MiB are needed")
    # It need not be there yet, and who is not root may not be able to make it.
    while [[ ! -d $target ]]; do target=$(dirname "$target"); done
    free=$(df --output=avail -m "$target" | tail -1)
    ((free >= DISK_MIB)) || missing+=("disk: ${free// /} MiB are free in $target, $DISK_MIB MiB are needed; CARGO_TARGET_DIR names another place")
    [[ -c /dev/net/tun ]] || missing+=("/dev/net/tun: machines are plugged in with it; run: modprobe tun")
    if ((EUID == 0)); then
        unshare --net --mount --pid --fork true 2>/dev/null || missing+=("namespaces: the kernel or a container around this forbids them")
        if ip route show 10.213.0.0/16 2>/dev/null | grep -q .; then missing+=("the address range 10.213.0.0/16: a route leads there already"); fi
    fi
    ((${#missing[@]} == 0)) || fail "this machine lacks something for the whole chain:" "${missing[@]}" "" "The balancer alone needs less: scripts/quickstart --quick"
}

# --- The nodes

declare -A ADDRESS=() PRIORITY=([lb-a]=200 [lb-b]=100)

# api NODE PATH
api() { curl -sf --max-time 2 -H "authorization: Bearer $TOKEN" "http://${ADDRESS[$1]}:7117$2"; }
has() { api "$1" "$2" | jq -e "$3"; }
node_is_up() { api "$1" /v1/status; }
is_master() { has "$1" /v1/vips/public '.routers[0].state == "master"'; }
leads() { has "$1" /v1/scaling/web '.leads' >/dev/null 2>&1; }
# The node that acts on machines; fails while there is none.
leader() {
    local node
    for node in lb-a lb-b; do
        if leads "$node"; then echo "$node" && return; fi
    done
    return 1
}
on_leader() {
    local node
    node=$(leader) && has "$node" "$1" "$2"
}
# machines COUNT: so many serve, and nothing else is there or under way.
machines() {
    on_leader /v1/scaling/web "([.members[] | select(.state == \"serving\")] | length) == $1 and (.members | length) == $1 and (.under_way | length) == 0"
}
alarm_is() { on_leader /v1/alarms/web-busy ".state == \"$1\""; }
is_gone() { ! on_leader /v1/scaling/web "any(.members[]; .machine == \"$1\" and .state == \"serving\")"; }

write_config() { # write_config NODE
    cat >"$FOLDER/$1.toml" <<END
[node]
name          = "$1"
workers       = 1
state_dir     = "$FOLDER/state-$1"
drain_timeout = "2s"

[api]
bind       = "${ADDRESS[$1]}:7117"
token_file = "$FOLDER/token"

[cluster]
leader_vip = "public"                 # who has it acts on machines

[vip.public]
interface = "eth0"
router_id = 51
addresses = ["$VIP/22"]
priority  = ${PRIORITY[$1]}
preempt   = false
advertisement_interval = "100ms"

[host.kvm-a]
uri          = "${URI[kvm-a]}"
storage_pool = "images"
domain_type  = "qemu"

[host.kvm-b]
uri          = "${URI[kvm-b]}"
storage_pool = "images"
domain_type  = "qemu"

[template.web]
master       = "web-master"           # its disk is the base of every clone
port         = 80
ready        = "http"
ready_path   = "/healthz"
boot_timeout = "4m"

[listener.web]
bind = "$VIP:80"
pool = "web"

[pool.web]
endpoints   = []                      # the machines are added by weir
min_healthy = 1

[pool.web.timeouts]
connect    = "1s"
first_byte = "3s"                     # a machine without power says nothing: then another one is asked

[pool.web.health]
type     = "http"
path     = "/healthz"
interval = "1s"
timeout  = "1s"
rise     = 1
fall     = 3

[pool.web.scaling]
template        = "web"
min             = $FEW
max             = $MANY
warm_up         = "1s"
cooldown_out    = "0s"
cooldown_in     = "2s"
stabilise_in    = "5s"
unhealthy_grace = "5s"

[[pool.web.scaling.target]]
metric = "requests-per-endpoint"
value  = 25
period = "2s"

[alarm.web-busy]
pool   = "web"
metric = "requests-per-endpoint"
above  = 30
period = "1s"
scale  = "+2"
END
}

start_node() {
    begin "$1" "$BIN/lab" shell --name "$LAB_NAME" "$1" "$BIN/weir" run --config "$FOLDER/$1.toml" >>"$FOLDER/$1.log" 2>&1
    until_so 30 "the API of $1" node_is_up "$1"
}

# Everything of a node dies at once: weir, what watches over its address, what speaks with libvirt. As when somebody pulls the plug.
kill_node() {
    local process namespace pids=()
    namespace=$(readlink "/proc/${RUNNING[$1]}/ns/net")
    for process in /proc/[0-9]*; do
        if [[ $(readlink "$process/ns/net" 2>/dev/null) == "$namespace" ]]; then pids+=("${process#/proc/}"); fi
    done
    BEGAN=$(now)
    # In one group without standard error: bash itself would report the kill there.
    { kill -KILL "${pids[@]}" && wait "${RUNNING[$1]}"; } 2>/dev/null || true
    unset "RUNNING[$1]"
}

# --- The machines

declare -A URI=()

# What somebody would have installed by hand: a machine that is shut down, with a disk of its own.
make_master() {
    "$BIN/lab" shell --name "$LAB_NAME" kvm-a cp --sparse=always "$(jq -r .disk "$FOLDER/image.json")" /var/lib/libvirt/images/web-master.qcow2
    cat >"$FOLDER/web-master.xml" <<END
<domain type='qemu'>
  <name>web-master</name><memory unit='MiB'>96</memory><vcpu>1</vcpu>
  <os><type arch='x86_64' machine='q35'>hvm</type>
    <kernel>$(jq -r .kernel "$FOLDER/image.json")</kernel><initrd>$(jq -r .initramfs "$FOLDER/image.json")</initrd>
    <cmdline>$(jq -r .command_line "$FOLDER/image.json")</cmdline></os>
  <features><acpi/></features><cpu mode='custom' match='exact'><model>qemu64</model></cpu>
  <on_reboot>restart</on_reboot>
  <devices>
    <disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='/var/lib/libvirt/images/web-master.qcow2'/><target dev='vda' bus='virtio'/></disk>
    <interface type='network'><source network='lan'/><model type='virtio'/><rom enabled='no'/></interface>
    <controller type='usb' model='none'/><video><model type='none'/></video>
    <channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>
    <serial type='pty'/><console type='pty'/><memballoon model='virtio'><stats period='1'/></memballoon>
  </devices>
</domain>
END
    virsh -q -c "${URI[kvm-a]}" define "$FOLDER/web-master.xml" >/dev/null
}

# --- The clients

rate() { printf '%d\n' "$1" >"$FOLDER/rate"; }

# account FROM: what the clients saw since then: answered, failed, sent again, and the longest time without an answer in ms.
account() {
    sort -n "$FOLDER/load.log" | awk -v from="$1" '
        $1 < from { if ($4 == "ok") last = $1; next }
        $4 == "ok" { served++; if (last && $1 - last > gap) gap = $1 - last; last = $1 }
        $4 != "ok" { failed++ }
        $3 > 1 { again++ }
        END { printf "%d %d %d %d\n", served, failed, again, gap * 1000 }'
}

# seen FROM: prints it.
ALL_FAILED=0
seen() {
    local served failed again gap
    # What has just ended is written down within a moment.
    sleep 0.3
    read -r served failed again gap < <(account "$1")
    ALL_FAILED=$((ALL_FAILED + failed))
    say "    the clients: $served requests answered, ${BOLD}requests failed: $failed$PLAIN, sent again by the clients: $again, longest silence: $gap ms"
}

# shares FROM: who answered since then.
shares() {
    local pairs
    sleep 0.3
    mapfile -t pairs < <(awk -v from="$1" '$1 >= from && $4 == "ok" { count[$5]++ } END { for (name in count) print name "=" count[name] }' "$FOLDER/load.log" | sort)
    bars "${pairs[@]}"
}
answered() { [[ $(account "$1" | cut -d' ' -f1) -ge $2 ]]; }

figure() { say "    ${GREEN}$1:$PLAIN ${BOLD}$2$PLAIN"; }

step "What is needed"
what_is_needed
packages cc=build-essential curl=curl jq=jq ip=iproute2 nft=nftables nsenter=util-linux ps=procps \
    /usr/include/libvirt/libvirt.h=libvirt-dev pkg-config=pkg-config libvirtd=libvirt-daemon-system virsh=libvirt-clients \
    qemu-system-x86_64=qemu-system-x86 qemu-img=qemu-utils \
    "$(echo /usr/lib/*-linux-gnu/libvirt/connection-driver/libvirt_driver_qemu.so)=libvirt-daemon-driver-qemu" dnsmasq=dnsmasq-base \
    /usr/share/doc/busybox-static=busybox-static genisoimage=genisoimage mke2fs=e2fsprogs
[[ -n ${WEIR_QUICKSTART_BIN:-} ]] || rust_toolchain
make_folder

step "Building weir and the lab (the first time takes some minutes)"
build weir weir-libvirt lab
say "The guest: a small Debian kernel, busybox, and a server that tells the machine's name."
run "$BIN/lab" image >"$FOLDER/image.json" || fail "the guest image could not be built" "Its messages are above."

step "Two virtual hosts on a switch, each with a libvirtd of its own"
begin lab "$BIN/lab" up --name "$LAB_NAME" --hosts 2 --node lb-a --node lb-b --node client --disk 2048 >"$FOLDER/lab.log" 2>&1
lab_is_up() { grep -q 'takes it down' "$FOLDER/lab.log" || ! kill -0 "${RUNNING[lab]}" 2>/dev/null; }
until_so 120 "the lab" lab_is_up
grep -q 'takes it down' "$FOLDER/lab.log" || fail "the lab could not be made"
"$BIN/lab" status --json | jq --arg name "$LAB_NAME" '.[] | select(.name == $name)' >"$FOLDER/lab.json"
while read -r name address; do ADDRESS[$name]=$address; done < <(jq -r '.nodes[] | "\(.[0]) \(.[1])"' "$FOLDER/lab.json")
while read -r name uri; do URI[$name]=$uri; done < <(jq -r '.hosts[] | "\(.[0]) \(.[1])"' "$FOLDER/lab.json")
VIP=$(jq -r '.free[0]' "$FOLDER/lab.json")
say "    kvm-a ${URI[kvm-a]}   kvm-b ${URI[kvm-b]}"
say "    lb-a ${ADDRESS[lb-a]}   lb-b ${ADDRESS[lb-b]}   client ${ADDRESS[client]}"

step "A master machine, two nodes of weir, one address"
TOKEN=$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')
(umask 077 && printf '%s\n' "$TOKEN" >"$FOLDER/token")
export WEIR_TOKEN_FILE=$FOLDER/token
make_master
for node in lb-a lb-b; do write_config "$node"; done
"$BIN/weir" check "$FOLDER/lb-a.toml"
say "    the same file on both nodes, but for its name, its address and its priority: $FOLDER/lb-a.toml"
BEGAN=$(now)
start_node lb-a
until_so 30 "lb-a to have the address" is_master lb-a
start_node lb-b
figure "lb-a has the address $VIP after" "$(since "$BEGAN") s"
say "    The master's disk becomes a base on both hosts, and $FEW linked clones of it boot."
until_so "$BOOTS" "the first $FEW machines" machines "$FEW"
figure "$FEW machines serve after" "$(since "$BEGAN") s"

step "Clients ask for $CALM pages a second"
rate "$CALM"
begin client "$BIN/lab" shell --name "$LAB_NAME" client "$BIN/lab" load "$VIP:80" --rate "$CALM" --rate-file "$FOLDER/rate" --patience 10 \
    --log "$FOLDER/load.log" >"$FOLDER/client.log" 2>&1
BEGAN=$(now)
until_so 60 "the clients" test -s "$FOLDER/load.log"
until_so 60 "a hundred answers" answered "$BEGAN" 100
shares "$BEGAN"
seen "$BEGAN"

step "The load rises to $BUSY a second"
BEGAN=$(now)
rate "$BUSY"
until_so 60 "the alarm" alarm_is alarm
figure "the alarm web-busy went off after" "$(since "$BEGAN") s"
until_so "$BOOTS" "$MANY machines" machines "$MANY"
figure "time to scale from $FEW to $MANY machines" "$(since "$BEGAN") s"
shares "$(ago 2)"
seen "$BEGAN"

step "The node that has the address is killed"
until_so 30 "lb-b to be ready" has lb-b /v1/vips/public '.routers[0].state == "backup"'
say "    kill -9 of everything on lb-a"
kill_node lb-a
until_so 30 "lb-b to have the address" is_master lb-b
until_so 60 "answers over lb-b" answered "$BEGAN" 100
sleep 0.3
read -r _ _ _ GAP < <(account "$BEGAN")
figure "takeover time, as the clients saw it" "$GAP ms"
seen "$BEGAN"
until_so 60 "lb-b to act on machines" leads lb-b
start_node lb-a
say "    lb-a is back, and stands by."

step "A machine is killed"
until_so "$BOOTS" "$MANY machines" machines "$MANY"
read -r VICTIM ITS_HOST < <(api lb-b /v1/machines | jq -r '[.[] | select(.metadata.pool == "web" and .state == "running")][0] | "\(.name) \(.host)"') || fail "weir shows no machine of the pool"
BEGAN=$(now)
say "    $VICTIM on $ITS_HOST loses its power"
virsh -q -c "${URI[$ITS_HOST]}" destroy "$VICTIM" >/dev/null
until_so 60 "weir to notice" is_gone "$VICTIM"
figure "out of the pool after" "$(since "$BEGAN") s"
until_so "$BOOTS" "$MANY machines again" machines "$MANY"
figure "replaced after" "$(since "$BEGAN") s"
seen "$BEGAN"

step "The load falls to $CALM a second"
BEGAN=$(now)
rate "$CALM"
until_so "$BOOTS" "$FEW machines" machines "$FEW"
figure "back from $MANY to $FEW machines, each drained first, after" "$(since "$BEGAN") s"
shares "$(ago 2)"
seen "$BEGAN"

step "What weir says, and what is yours to try"
LEADER=$(leader)
export WEIR_API=${ADDRESS[$LEADER]}:7117
"$BIN/weir" scaling show web || true
"$BIN/weir" status vm
((ALL_FAILED == 0)) || fail "$ALL_FAILED requests failed; the first:" "$(grep -m 3 ' failed ' "$FOLDER/load.log")"
say ""
say "    All acts together: ${BOLD}requests failed: $ALL_FAILED$PLAIN"
cat <<END

    the site          ${BOLD}http://$VIP/${PLAIN}
    the console       ${BOLD}http://${ADDRESS[$LEADER]}:7117/${PLAIN}   (its token: cat $FOLDER/token)
    the API           http://${ADDRESS[lb-a]}:7117/v1/status   http://${ADDRESS[lb-b]}:7117/v1/status

    In another terminal:
      export WEIR_API=${ADDRESS[$LEADER]}:7117 WEIR_TOKEN_FILE=$FOLDER/token PATH="$BIN:\$PATH"
      curl http://$VIP/
      weir top                                          the same in a terminal; ? shows the keys
      weir status --watch
      weir events --follow
      echo $BUSY >$FOLDER/rate          the clients' requests a second
      weir vip release public                           the other node takes the address over
      lab shell --name $LAB_NAME kvm-a virsh list --all
      scripts/quickstart --down                         ends and removes all of it

END
if ((NO_WAIT)); then exit 0; fi
say "${BOLD}Everything goes on. Ctrl-C, or scripts/quickstart --down, stops it and removes it.$PLAIN"
wait "${RUNNING[lab]}" || true
fail "the lab has ended"
