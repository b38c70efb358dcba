// Generated from control/openapi.json by `npm run types`. `null` and absence mean the same: see merge() in live.ts.

export interface OverviewView {
  /** By name. */
  alarms: Record<string, AlarmOverview>;
  /** When it was looked at. */
  at: number;
  /** Ways to tell people, by name. */
  channels: Record<string, ChannelOverview>;
  /** By name. */
  hosts: Record<string, HostOverview>;
  /** Incidents that are not over and the last ones that are, by their number. */
  incidents: Record<string, IncidentOverview>;
  /** The number of the last event. */
  last_event: number;
  /** The address of another node that acts on machines, as far as this one heard of it. */
  leader?: string | null;
  /** This node acts on machines. */
  leads: boolean;
  /** By name. */
  listeners: Record<string, ListenerOverview>;
  /** Machines on all hosts, those that are not ours too, by their UUID. */
  machines: Record<string, MachineOverview>;
  /** The process. */
  node: NodeView;
  /** By name. */
  pools: Record<string, PoolOverview>;
  /** What is wrong now, the worst first, at most 200. */
  problems: ProblemItem[];
  traffic?: TrafficRates | null;
  /** By name. */
  vips: Record<string, VipOverview>;
}

export interface EventsView {
  /** The events. */
  events: EventView[];
  /** What to pass as `after` to get the following ones. */
  next: number;
  /** Process id of the node. Numbers begin again with another process. */
  pid: number;
}

export interface ConfigView {
  /** `[node] drain_timeout` in seconds. */
  drain_timeout_s: number;
  /** Names of the listeners. */
  listeners: string[];
  /** The file. */
  path: string;
  /** Number of endpoints by pool, run-time changes included. */
  pools: Record<string, number>;
  /** Grows with each change, of the file or at run time. */
  revision: number;
  /** SHA-256 of the file in effect, hexadecimal. */
  sha256: string;
}

export interface Reloaded {
  /** One line for each difference; empty: nothing changed. */
  changes: string[];
  /** Nothing was changed, only looked at. */
  dry_run: boolean;
  /** The revision in effect afterwards. */
  revision: number;
}

export interface ProblemView {
  /** What was wrong and what to do; may have several lines. */
  detail: string;
  /** The HTTP status. */
  status: number;
  /** The status in words. */
  title: string;
  /** Always `about:blank`: `status` says which kind it is. */
  type: string;
}

export interface AlarmItem {
  acknowledged?: AlarmSeen | null;
  /** When it goes off, in words. */
  condition: string;
  /** Whether something is done about it: it is in alarm, and neither muted nor suppressed. */
  engaged: boolean;
  /** Its last changes, oldest first, each with the data points that caused it. */
  history: AlarmChangeView[];
  /** `[alarm.NAME]` */
  name: string;
  /** The channels that are told. */
  notify: string[];
  /** The data points that were last looked at, oldest first. */
  points: AlarmPoint[];
  /** Why nothing is done about it though it is in alarm. */
  quiet_because?: string | null;
  /** `info`, `warning` or `critical` */
  severity: string;
  /** Since when. */
  since: number;
  /** `ok`, `alarm` or `insufficient-data` */
  state: string;
  /** The newest value. */
  value?: number | null;
  /** What is watched, in words. */
  watches: string;
}

export interface ScalingItem {
  /** Machines on their way. */
  coming: number;
  /** Machines that are wanted. */
  desired: number;
  /** Of the plan. */
  generation: number;
  /** Machines on their way out. */
  going: number;
  /** Launches that failed in a row. */
  launch_failures: number;
  /** Launches that failed so far. */
  launch_failures_total: number;
  /** Launches so far, of this process. */
  launches_total: number;
  /** This node leads: it is the one that acts. */
  leads: boolean;
  /** Never more, now. */
  max: number;
  /** Its machines. */
  members: MemberItem[];
  /** Never fewer, now. */
  min: number;
  /** `auto` or `recommend` */
  mode: string;
  /** What is waited for. */
  notes: string[];
  /** An operator has stopped it. */
  paused: boolean;
  /** Pool. */
  pool: string;
  refresh?: RefreshItem | null;
  /** What is wanted and cannot be, and why. */
  refusals: string[];
  /** Machines removed so far. */
  removals_total: number;
  /** Room on the hosts. */
  room: RoomItem[];
  /** Machines that serve. */
  serving: number;
  /** The steps of the last plan. */
  steps: string[];
  /** `[template.NAME]` */
  template: string;
  /** Machines and slots that are worked on. */
  under_way: string[];
  /** Machines that are ill or not seen. */
  unhealthy: number;
  /** What was decided or is waited for, in words. */
  why: string;
  /** What each policy wants. */
  wishes: WishItem[];
}

export interface VipView {
  /** Its addresses with their prefix lengths. */
  addresses: string[];
  /** The interface. */
  interface: string;
  /** The node that is master of it acts for all (`[cluster] leader_vip`). */
  leader: boolean;
  /** This node is master of all of it. */
  master: boolean;
  /** `[vip.NAME]` */
  name: string;
  /** The VRID. */
  router_id: number;
  /** Its virtual routers. */
  routers: VirtualRouterView[];
}

export interface OperationView {
  /** All of it has ended. */
  ended: boolean;
  /** Its number; 0: nothing was begun (a dry run). */
  id: number;
  /** One for each machine. */
  items: OperationItem[];
  /** What is done. */
  what: string;
}

export interface MachineAct {
  /** Although this node does not lead. */
  anyway?: boolean;
  /** Only say which machines it would be. */
  dry_run?: boolean;
  /** `shutdown`: pull the plug after that. */
  force?: boolean;
  /** All of this host. */
  host?: string | null;
  /** All with this label, `key=value`. */
  label?: string | null;
  /** Names or UUIDs. */
  machines?: string[];
  /** How many at once, 1 to 64; `null`: 4. */
  parallel?: number | null;
  /** All of this pool. */
  pool?: string | null;
  /** `shutdown`: how long it may take, in milliseconds; `null`: 60,000. */
  timeout_ms?: number | null;
  /** `migrate`: where to. */
  to?: string | null;
  /** `start`, `resume`, `suspend`, `shutdown`, `stop`, `reset`, `reboot`, `flatten`, `delete` or `migrate`. */
  verb: string;
}

export interface HistoryPage {
  /** What happened. */
  entries: HistoryItem[];
  /** To go on: ask with `before` = this number. Absent: there is no more. */
  next?: number | null;
}

export interface ConfigFileView {
  /** Why it cannot be read. */
  error?: string | null;
  /** It is what is in effect. */
  in_effect: boolean;
  /** Where it is. */
  path: string;
  /** Its SHA-256, hexadecimal. */
  sha256?: string | null;
  /** What is in it; `null`: it cannot be read. */
  text?: string | null;
}

export interface ConfigVersion {
  /** When it last began to be. */
  at: number;
  /** Its size. */
  bytes: number;
  /** It is in effect now. */
  in_effect: boolean;
  /** Its SHA-256, hexadecimal. */
  sha256: string;
}

export interface ConfigText {
  /** Its SHA-256, hexadecimal. */
  sha256: string;
  /** The whole file. */
  text: string;
}

export interface AlarmOverview {
  /** Who has seen it. */
  acknowledged_by?: string | null;
  /** When it goes off, in words. */
  condition: string;
  /** Whether something is done about it. */
  engaged: boolean;
  /** The pool that it watches or scales. */
  pool?: string | null;
  /** Why nothing is done about it though it is in alarm. */
  quiet_because?: string | null;
  /** `info`, `warning` or `critical` */
  severity: string;
  /** Since when. */
  since: number;
  /** `ok`, `alarm` or `insufficient-data` */
  state: string;
  /** The newest value. */
  value?: number | null;
  /** What is watched, in words. */
  watches: string;
}

export interface ChannelOverview {
  /** Messages that were given up. */
  dead: number;
  /** It fails now. */
  failing: boolean;
  /** Its kind. */
  kind: string;
  /** Messages that wait. */
  waiting: number;
}

export interface HostOverview {
  /** Share of its processors in use, 0 to 1. */
  cpu_share?: number | null;
  /** Processors. */
  cpus: number;
  /** Labels of the file. */
  labels: Record<string, string>;
  /** Domains of any kind. */
  machines: number;
  /** Bytes of memory. */
  memory_bytes: number;
  /** Bytes of memory that are free. */
  memory_free_bytes?: number | null;
  /** Bytes that its running and paused machines may use at most. */
  memory_promised_bytes: number;
  /** `up`, `connecting` (it has not answered yet) or `unknown` (it does not answer any more) */
  state: string;
  /** Bytes of its storage pool. */
  storage_bytes?: number | null;
  /** Bytes of its storage pool that are free. */
  storage_free_bytes?: number | null;
  /** Why it does not answer. */
  why?: string | null;
}

export interface IncidentOverview {
  /** Who takes care. */
  acknowledged_by?: string | null;
  /** When it ended. */
  resolved_at?: number | null;
  /** `info`, `warning` or `critical` */
  severity: string;
  /** When it began. */
  started_at: number;
  /** `open`, `acknowledged` or `resolved` */
  state: string;
  /** What is wrong, in words. */
  summary: string;
}

export interface ListenerOverview {
  /** Bound addresses. */
  binds: string[];
  /** Client connections open now. */
  connections_open: number;
  /** Pools that it may send to, by its routes or without one. */
  pools: string[];
  /** `http`, `tcp` or `udp` */
  protocol: string;
  rates?: TrafficRates | null;
  /** It speaks TLS. */
  tls: boolean;
  /** The virtual IPs among them. */
  vips: string[];
}

export interface MachineOverview {
  /** Its address. */
  address?: string | null;
  /** Number of the base its content came from. */
  base_generation?: number | null;
  /** Share of its virtual processors in use, 0 to 1. */
  cpu_share?: number | null;
  /** Its host. */
  host: string;
  /** Labels. */
  labels: Record<string, string>;
  /** What it is to its pool: `launching`, `serving`, `leaving`, ... */
  member?: string | null;
  /** Bytes of memory it may have at most. */
  memory_bytes: number;
  /** Bytes of memory that its guest uses. */
  memory_used_bytes?: number | null;
  /** Name of the domain. */
  name: string;
  /** Made by us; all others are left alone. */
  ours: boolean;
  /** `creating`, `ready` or `deleting` */
  phase?: string | null;
  /** The pool it serves. */
  pool?: string | null;
  /** Nobody takes it out to make the pool smaller. */
  protected: boolean;
  /** `member` or `warm` */
  role?: string | null;
  /** Since when it is in its phase. */
  since?: number | null;
  /** `running`, `paused`, `shutting_down`, `off`, `crashed` or `other` */
  state: string;
  /** Its template. */
  template?: string | null;
  /** Virtual processors. */
  vcpus: number;
}

export interface NodeView {
  /** The file. */
  config_path: string;
  /** SHA-256 of the file in effect, hexadecimal. */
  config_sha256: string;
  /** Client connections open, idle ones included. */
  connections: number;
  /** A stop or an upgrade is under way. */
  draining: boolean;
  /** Why what happens is kept in memory alone; `null`: it is written. */
  history_fault?: string | null;
  /** Requests and sessions under way. */
  in_flight: number;
  last_reload?: LastReload | null;
  /** `[node] name` */
  name: string;
  /** Process id. */
  pid: number;
  /** Serving and not draining. */
  ready: boolean;
  /** Grows with each change of the effective configuration. */
  revision: number;
  /** When it started. */
  started_at: number;
  /** Version of the program. */
  version: string;
}

export interface PoolOverview {
  /** Endpoints that may be picked now. */
  available: number;
  /** How it balances. */
  balance: string;
  /** By address as written. */
  endpoints: Record<string, EndpointOverview>;
  /** Healthy endpoints. */
  healthy: number;
  /** Requests and sessions under way on its endpoints. */
  in_flight: number;
  /** The floor. */
  min_healthy: number;
  rates?: PoolRates | null;
  scaling?: ScalingOverview | null;
  /** `ok`, `degraded` (some endpoint is down), `below-floor`, `down` (no endpoint may be picked) or `empty`. */
  state: string;
  /** Requests that wait for an endpoint now. */
  waiting: number;
}

export interface ProblemItem {
  /** What it is about: `node`, `listener`, `pool`, `host`, `machine`, `vip`, `alarm` or `channel`. */
  about: string;
  /** Which kind of thing, a word: `pool-below-floor`, `endpoints-down`, `host-lost`, ... */
  kind: string;
  /** The name of what it is about. */
  name: string;
  /** What to do next, in words. */
  next: string;
  /** `critical`, `warning` or `info` */
  severity: string;
  /** What is wrong, in words. */
  text: string;
  /** What the words are made of, for those who say it in another language. */
  values: Record<string, string>;
}

export interface TrafficRates {
  /** Connections accepted a second. */
  connections_per_s: number;
  /** Responses of class 5xx a second. */
  errors_per_s: number;
  /** Bytes read from clients a second. */
  received_bytes_per_s: number;
  /** Requests and sessions that ended, a second. */
  requests_per_s: number;
  /** Bytes written to clients a second. */
  sent_bytes_per_s: number;
}

export interface VipOverview {
  /** Its addresses with their prefix lengths. */
  addresses: string[];
  /** The interface. */
  interface: string;
  /** The node that is master of it acts for all. */
  leader: boolean;
  /** This node is master of all of it. */
  master: boolean;
  /** The VRID. */
  router_id: number;
  /** Its virtual routers, by family: `ipv4` or `ipv6`. */
  routers: Record<string, RouterOverview>;
}

export interface EventView {
  /** When. */
  at: number;
  /** What belongs to this kind. */
  details: Record<string, unknown>;
  /** Which kind: `health`, `ejected`, `readmitted`, `floor`, `resolved`, `applied`, ... */
  event: string;
  /** Grows by one with each event of the process. */
  number: number;
}

export interface AlarmSeen {
  /** When. */
  at: number;
  /** Who. */
  by: string;
  /** What they said. */
  comment: string;
}

export interface AlarmChangeView {
  /** When. */
  at: number;
  /** Before. */
  from: string;
  /** What caused it. */
  points: AlarmPoint[];
  /** Why, in words. */
  reason: string;
  /** After. */
  to: string;
}

export interface AlarmPoint {
  /** End of its period. */
  at: number;
  /** `null`: missing. */
  value?: number | null;
}

export interface MemberItem {
  /** The base its content came from. */
  base: string;
  /** Where its service listens. */
  endpoint?: string | null;
  /** Host. */
  host: string;
  /** Requests and sessions under way. */
  in_flight: number;
  /** Name. */
  machine: string;
  /** Nobody takes it out to make the pool smaller. */
  protected: boolean;
  /** It is an endpoint of the pool. */
  registered: boolean;
  /** When it was made. */
  since: number;
  /** Its number in the pool. */
  slot?: number | null;
  /** `launching`, `interrupted`, `booted`, `warming`, `serving`, `unhealthy`, `unknown`, `leaving` or `removing` */
  state: string;
}

export interface RefreshItem {
  /** When it began. */
  began: number;
  /** When it ended. */
  ended?: number | null;
  /** The base that most had before. */
  from?: string | null;
  /** Machines on the new base at the end of the last batch. */
  replaced: number;
  /** Why it goes back. */
  rolled_back?: string | null;
  /** The base that everything gets. */
  to: string;
}

export interface RoomItem {
  /** Host. */
  host: string;
  /** Machines that it still takes. */
  more: number;
  /** Warm clones that wait there. */
  warm: number;
  /** Why it takes no more than that. */
  why: string;
}

export interface WishItem {
  /** It cannot say, and therefore nothing is taken away. */
  blind: boolean;
  /** How many machines; `null`: it does not mind, or cannot say. */
  machines?: number | null;
  /** Which. */
  policy: string;
  /** Why, in words. */
  why: string;
}

export interface VirtualRouterView {
  /** How often it advertises as master. */
  advertisement_interval_ms: number;
  /** What was counted since the start, under the names of RFC 8347 where it has one. */
  counters: Record<string, number>;
  /** Packets that were discarded, by reason. */
  discarded: Record<string, number>;
  /** Whether it may be master. */
  eligible: boolean;
  /** `ipv4` or `ipv6` */
  family: string;
  heard_master?: MasterView | null;
  /** Addresses this node has now. */
  held: string[];
  /** Why not; empty if it may. */
  ineligible_because: string;
  /** How long it waits for a silent master (RFC 9568 section 6.1). */
  master_down_interval_ms: number;
  /** Where its addresses live: `tun`, `macvlan` or `interface`. */
  mode: string;
  /** Why there, in words. */
  mode_because: string;
  /** Other nodes of ours. */
  peers: VipPeerView[];
  /** The address it advertises from. */
  primary_address?: string | null;
  /** The priority with what tracking changed. */
  priority: number;
  /** The priority of the file. */
  priority_configured: number;
  /** The beginning of a SHA-256 over what all nodes' files should have alike, hexadecimal. */
  shared_sum?: string | null;
  /** Since when. */
  since: number;
  /** Its part that depends on the priority (RFC 9568 section 6.1). */
  skew_time_ms: number;
  /** `initialize`, `backup` or `master` */
  state: string;
  /** The last changes of state, oldest first. */
  transitions: TransitionView[];
  /** Why this node is or is not master, in words. */
  why: string;
}

export interface OperationItem {
  /** Bytes done, where they are counted. */
  done_bytes?: number | null;
  /** Bytes in all. */
  end_bytes?: number | null;
  /** It has ended. */
  ended: boolean;
  /** Why it failed; `null`: it did not. */
  error?: string | null;
  /** Its host, as soon as it is known. */
  host?: string | null;
  /** Its name; empty while it has none. */
  machine: string;
  /** What is being done. */
  step: string;
}

export interface HistoryItem {
  /** When, in seconds since 1970. */
  at: number;
  /** Everything about it. */
  details: Record<string, unknown>;
  /** Its number; they grow. */
  id: number;
  /** Which event, such as `alarm_changed`, `scaling_planned`, `scaling_step`. */
  kind: string;
  /** To whom: an alarm, a pool, a machine; empty: to the node. */
  subject: string;
}

export interface LastReload {
  /** When. */
  at: number;
  /** Why it was refused; `null`: it took effect. */
  error?: string | null;
}

export interface EndpointOverview {
  /** Whether it may be picked now. */
  available: boolean;
  /** What the last probes said; `null` when there is nothing to say. */
  evidence?: string | null;
  /** Of these, failed for its fault; `null`: none. */
  failures_per_s?: number | null;
  /** `healthy`, `unhealthy`, `unknown` or `unchecked` */
  health: string;
  /** Requests and sessions under way. */
  in_flight: number;
  /** The UUID of the machine that it is. */
  machine?: string | null;
  /** Share of its weight that it has now, in percent; `null`: all of it. */
  ramp_percent?: number | null;
  /** Requests and sessions a second; `null` until it was looked at twice. */
  requests_per_s?: number | null;
  /** Since when its health is what it is. */
  since: number;
  /** What the operator wishes. */
  state: AdminStateView;
  /** Tier; `null`: 0. */
  tier?: number | null;
  /** Share relative to the others. */
  weight: number;
  /** Why it may or may not be picked; `null` when there is nothing to explain. */
  why?: string | null;
}

export interface PoolRates {
  /** Of these, ended for the fault of an endpoint. */
  failures_per_s: number;
  /** Half of the responses came faster; `null`: there were none. */
  p50_ms?: number | null;
  /** 99 % came faster. */
  p99_ms?: number | null;
  /** Requests that had to wait for an endpoint, a second. */
  queued_per_s: number;
  /** Requests and sessions a second. */
  requests_per_s: number;
  /** Further attempts a second. */
  retries_per_s: number;
}

export interface ScalingOverview {
  /** Machines on their way. */
  coming: number;
  /** Machines that are wanted. */
  desired: number;
  /** Machines on their way out. */
  going: number;
  /** Launches that failed in a row. */
  launch_failures: number;
  /** Never more, now. */
  max: number;
  /** Never fewer, now. */
  min: number;
  /** `auto` or `recommend` */
  mode: string;
  /** An operator has stopped it. */
  paused: boolean;
  /** The base that a refresh under way brings to everything. */
  refreshing_to?: string | null;
  /** What is wanted and cannot be, and why. */
  refusals: string[];
  /** Machines that serve. */
  serving: number;
  /** `[template.NAME]` */
  template: string;
  /** Machines and slots that are worked on. */
  under_way: string[];
  /** Machines that are ill or not seen. */
  unhealthy: number;
  /** Warm clones that wait. */
  warm: number;
  /** What was decided or is waited for, in words. */
  why: string;
}

export interface RouterOverview {
  /** The address of the master that is heard; `null`: this node, or none. */
  heard_master?: string | null;
  /** Why this node may not be master; `null`: it may. */
  ineligible_because?: string | null;
  /** Other nodes of ours: by address, whether each could be master. */
  peers: Record<string, boolean>;
  /** The priority with what tracking changed. */
  priority: number;
  /** Since when. */
  since: number;
  /** `initialize`, `backup` or `master` */
  state: string;
  /** Why, in words. */
  why: string;
}

export interface MasterView {
  /** Its address. */
  address: string;
  /** Its interval. */
  advertisement_interval_ms: number;
  /** How long ago it was heard. */
  heard_ms: number;
  /** It is a weir node too. */
  is_weir: boolean;
  /** Its priority. */
  priority: number;
  /** Since when it is master, as far as this node heard. */
  since: number;
}

export interface VipPeerView {
  /** Its address. */
  address: string;
  /** Since when that is another one than this node's; `null`: it is not. */
  differs_since?: number | null;
  /** It could be master. */
  eligible: boolean;
  /** Healthy endpoints in the pools it tracks. */
  healthy_endpoints?: number | null;
  /** How long ago it was heard. */
  heard_ms: number;
  /** Its priority. */
  priority: number;
  /** The beginning of its sum over what all nodes' files should have alike; `null`: it did not tell. */
  shared_sum?: string | null;
}

export interface TransitionView {
  /** When. */
  at: number;
  /** Before. */
  from: string;
  /** After. */
  to: string;
  /** Why, in words. */
  why: string;
}

export type AdminStateView = "ready" | "draining" | "maintenance";
