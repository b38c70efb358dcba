# The balancer alone: two real nginx behind it, traffic spread over both, one of them killed under load, and back again.
# shellcheck shell=bash disable=SC2154 # what scripts/quickstart sets

STEPS=7
PORT=${WEIR_QUICKSTART_PORT:-8080}
PATIENCE=5

answers() { [[ $(curl -s --max-time 2 "http://127.0.0.1:$2/") == "$1"* ]]; }

origin() { # origin NAME PORT
    mkdir -p "$FOLDER/$1"
    cat >"$FOLDER/$1/nginx.conf" <<END
daemon off;
master_process off;
pid $FOLDER/$1/nginx.pid;
error_log $FOLDER/$1/error.log;
events { worker_connections 4096; }
http {
    access_log off;
    default_type text/plain;
    client_body_temp_path $FOLDER/$1/body;
    proxy_temp_path $FOLDER/$1/proxy;
    fastcgi_temp_path $FOLDER/$1/fastcgi;
    uwsgi_temp_path $FOLDER/$1/uwsgi;
    scgi_temp_path $FOLDER/$1/scgi;
    server {
        listen 127.0.0.1:$2;
        location / { return 200 "$1"; }
    }
}
END
    begin "$1" nginx -p "$FOLDER/$1" -c "$FOLDER/$1/nginx.conf" 2>>"$FOLDER/$1/error.log"
    until_so 10 "the origin $1 on port $2" answers "$1" "$2"
}

# Four clients, each with keep-alive connections of 50 requests, until the file `stop` is there.
load() {
    local client
    for client in 1 2 3 4; do
        while [[ ! -e $FOLDER/stop ]]; do
            curl -s --max-time 30 --write-out ' %{http_code}\n' "http://127.0.0.1:$PORT/?[1-50]" || true
        done >"$FOLDER/load.$client" &
    done
    wait
}

served() { cat "$FOLDER"/load.* 2>/dev/null | grep -c "^$1 200" || true; }
more_than() { (($(served "$1") > $2)); }
at_full_share() { curl -s --max-time 2 "http://127.0.0.1:$API/v1/status" | grep -q "\"address\":\"127.0.0.1:$1\"[^}]*\"available\":true[^}]*\"ramp_percent\":100"; }

# phase NAME: what each origin served since the last phase.
A=0 B=0
phase() {
    local a b
    a=$(served alder) b=$(served birch)
    say "  $1:"
    bars alder=$((a - A)) birch=$((b - B))
    A=$a B=$b
}
endpoint_is() { # endpoint_is PORT healthy|unhealthy
    curl -s --max-time 2 "http://127.0.0.1:$API/v1/status" | grep -o "\"address\":\"127.0.0.1:$1\"[^}]*\"health\":\"[a-z]*\"" | grep -q "\"health\":\"$2\""
}

step "Packages and toolchain"
packages cc=build-essential nginx=nginx-light curl=curl
[[ -n ${WEIR_QUICKSTART_BIN:-} ]] || rust_toolchain
make_folder

step "Building weir (the first time takes some minutes)"
build weir
WEIR=$BIN/weir

step "Starting two origins and weir in front of them"
WANTED=$PORT
PORT=$(free_port "$PORT")
[[ $PORT == "$WANTED" ]] || say "Port $WANTED is in use, taking $PORT."
ALDER=$(free_port $((PORT + 1)))
origin alder "$ALDER"
BIRCH=$(free_port $((ALDER + 1)))
origin birch "$BIRCH"
API=$(free_port 7117)
cat >"$FOLDER/weir.toml" <<END
[node]
name      = "quickstart"
state_dir = "$FOLDER/state"

[api]
bind = "127.0.0.1:$API"

[listener.web]
bind     = "127.0.0.1:$PORT"
protocol = "http"
pool     = "web"

[pool.web]
endpoints  = ["127.0.0.1:$ALDER", "127.0.0.1:$BIRCH"]
slow_start = "2s"

[pool.web.health]
type     = "http"
path     = "/"
interval = "500ms"
timeout  = "500ms"
rise     = 2
fall     = 2
END
sed 's/^/    /' "$FOLDER/weir.toml"
"$WEIR" check "$FOLDER/weir.toml"
begin weir "$WEIR" run --config "$FOLDER/weir.toml" >>"$FOLDER/weir.log" 2>&1
export WEIR_API="127.0.0.1:$API"
until_so 15 "weir to be ready" curl -sf --max-time 2 "http://127.0.0.1:$API/readyz"
say "weir listens on http://127.0.0.1:$PORT/"

step "Traffic is spread"
curl -s --max-time 30 --write-out ' %{http_code}\n' "http://127.0.0.1:$PORT/?[1-400]" >"$FOLDER/spread" || true
bars alder="$(grep -c '^alder 200' "$FOLDER/spread" || true)" birch="$(grep -c '^birch 200' "$FOLDER/spread" || true)"

step "One origin is killed under load, and comes back"
begin load load
until_so 15 "the load" more_than birch 1000
phase "both are there"
say "  kill -9 birch"
# In one group without standard error: bash itself would report the kill there.
{ kill -KILL "${RUNNING[birch]}" && wait "${RUNNING[birch]}"; } 2>/dev/null || true
unset 'RUNNING[birch]'
until_so 15 "birch to be found dead" endpoint_is "$BIRCH" unhealthy
until_so 15 "alder to carry all" more_than alder $((A + 3000))
phase "birch is dead"
origin birch "$BIRCH"
say "  birch is started again; its share grows with slow_start"
until_so 15 "birch to be found healthy" endpoint_is "$BIRCH" healthy
until_so 30 "birch to carry its full share" at_full_share "$BIRCH"
phase "while it comes back"
until_so 15 "birch to serve" more_than birch $((B + 1000))
phase "both are there again"
touch "$FOLDER/stop"
wait "${RUNNING[load]}" || true
unset 'RUNNING[load]'
cat "$FOLDER"/load.* >"$FOLDER/all"
FAILED=$(grep -vc ' 200$' "$FOLDER/all" || true)
say "    requests: $(wc -l <"$FOLDER/all")   ${BOLD}requests failed: $FAILED$PLAIN"

step "What weir says about it"
"$WEIR" status
((FAILED == 0)) || fail "$FAILED requests failed; the first:" "$(grep -v ' 200$' "$FOLDER/all" | head -3)"

step "Yours to try"
cat <<END
    weir listens on   ${BOLD}http://127.0.0.1:$PORT/${PLAIN}
    the console       ${BOLD}http://127.0.0.1:$API/${PLAIN}
    API, metrics      http://127.0.0.1:$API/v1/status   http://127.0.0.1:$API/metrics

    In another terminal:
      export WEIR_API=127.0.0.1:$API PATH="$BIN:\$PATH"
      curl http://127.0.0.1:$PORT/
      weir top                                   the same in a terminal; ? shows the keys
      weir status --watch
      weir drain 127.0.0.1:$BIRCH                no new work for birch; waits for what is open
      weir undrain 127.0.0.1:$BIRCH
      weir endpoint weight web 127.0.0.1:$ALDER 3
      $FOLDER/weir.toml               change it; weir reload

END
if ((NO_WAIT)); then exit 0; fi
say "${BOLD}Ctrl-C stops everything and removes it.$PLAIN"
wait "${RUNNING[weir]}" || true
fail "weir has ended"
