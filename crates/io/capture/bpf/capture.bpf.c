// SPDX-License-Identifier: MIT OR Apache-2.0
//
// Which link a socket of this machine leaves by, decided when it connects or sends.
//
// Programs of one cgroup, usually the root of cgroup2, so they see every socket of the machine. The first thing that each
// does is to compare the network namespace; all others' sockets pass untouched. User space writes plans, this file carries
// them out; the layout of what both share is mirrored in src/layout.rs, and a test compares the sizes.
//
// TCP, and UDP that connects: the socket gets the chosen link's mark before its route is looked up, so its source address fits.
// UDP that only sends: the kernel reads the mark before the hook runs, so the datagram gets the link's source address
// instead, for which there is a routing rule. The link belongs to the socket, not to each datagram: what another host learnt of its
// address stays true.
//
// Needs Linux 5.15: links (5.7), netns cookies in sock_ops (5.15), ring buffers (5.8).

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>

#define LINKS 16
#define RULES 128
#define CLASSES 2
#define CREDIT_LIMIT 4000

#define PROTOCOL_TCP 6
#define PROTOCOL_UDP 17
#define FAMILY_V4 2
#define FAMILY_V6 10
#define LEVEL_SOCKET 1
#define OPTION_MARK 36
#define STATE_SYN_SENT 2
#define STATE_CLOSE 7
#define FIRST_JIFFIES 0x100000000ULL /* less 300 s: the kernel's counter starts there */

// The marks of the links are MARK_BASE + slot + 1.
#define MARK_BASE 0x0b0d0000
#define MARK_MASK 0xffff0000

#define LINK_V4 1u
#define LINK_V6 2u
#define LINK_ALIVE 4u // sockets that have it keep it
#define NO_LINK 0xff
#define REFUSED 0xfe

#define ACTION_BYPASS 1
#define ACTION_USE 2   // the link, and another one while it takes none
#define ACTION_ONLY 3  // the link, dead or alive
#define ACTION_AVOID 4 // any other, while there is one
#define ACTION_REFUSE 5
#define ACTION_CHOOSE 6 // as without rules

#define KIND_OPENED 1
#define KIND_MOVED 2
#define KIND_CONNECTED 3
#define KIND_TIMEOUT 4
#define KIND_CLOSED 5

#define REASON_WEIGHT 1
#define REASON_STICKY 2
#define REASON_RULE 3
#define REASON_FALLBACK 4

struct link {
	__u32 mark;
	__u32 flags;
	__u32 syn_ms; // the first SYN's timeout; 0 is the kernel's own
	__u32 fallback;
	__u32 v4;     // network order
	__u32 v6[4];
};

struct rule {
	__u32 to[4]; // network order; IPv4 as ::ffff:a.b.c.d
	__u32 mask[4];
	__u32 uid;
	__u32 uid_mask; // nothing or all
	__u32 comm[4];
	__u32 comm_mask; // nothing or all
	__u16 port_first;
	__u16 port_span;
	__u8 protocol;
	__u8 protocol_mask; // nothing or all
	__u8 action;
	__u8 slot;
	__u32 order; // among all rules, these and the prefixes; the smallest one wins
};

struct port_key {
	__u32 slot; // of the plan
	__u16 port;
	__u16 unused;
};

#define PORT_INTERACTIVE_TCP 1u
#define PORT_INTERACTIVE_UDP 2u
#define PORT_STICKY 4u

struct plan {
	__u64 sticky_ns;
	__u64 idle_ns; // a UDP socket that was silent for so long is given a link anew
	__u32 epoch;
	__u32 rule_count;
	__u32 has_prefixes;
	__u32 unused;
	__u32 open[2];  // links that take new sockets, a bit each; IPv4, IPv6
	__u32 sites[2]; // links that keep the sites that stick to them
	struct link links[LINKS];
	__u16 weights[CLASSES][LINKS];
	struct rule rules[RULES];
};

struct prefix_key {
	__u32 length;
	__u32 slot; // of the plan
	__u32 to[4];
};

struct prefix_rule {
	__u32 order;
	__u8 action;
	__u8 slot;
	__u8 unused[2];
};

struct route_key {
	__u32 length;
	__u32 to[4];
};

struct turn {
	struct bpf_spin_lock lock;
	__s32 credit[LINKS];
};

struct address {
	__u32 words[4];
};

struct site {
	__u64 until;
	__u32 slot;
	__u32 unused;
};

// What is known of a socket. It goes with it.
struct own {
	__u64 used;
	__u32 epoch;
	__u32 mark; // what this program has set
	__u32 last[4];
	__u32 resolver[4]; // whom the application asked before its question was redirected
	__u16 last_port;
	__u16 resolver_port;
	__u8 slot;
	__u8 passive; // it received before it sent: a server, whose answers are not ours
	__u8 bypass;  // the verdict on `last`
	__u8 is_set;
	__u8 sent; // anything, to anyone
	__u8 unused[7];
};

struct event {
	__u64 cookie;
	__u64 at;
	__u64 bytes_up;
	__u64 bytes_down;
	__u32 kind;
	__u32 pid;
	__u32 uid;
	__u32 a; // CONNECTED: smoothed RTT in µs; TIMEOUT, CLOSED: retransmits
	__u32 b; // TIMEOUT, CLOSED: the TCP state that it was in
	__u32 local[4];
	__u32 remote[4];
	__u16 local_port;
	__u16 remote_port;
	__u8 slot;
	__u8 reason;
	__u8 family;
	__u8 protocol;
	char comm[16];
	__u32 unused;
};

// The process that started this, found by a socket of its own: a number seen from inside a PID namespace would be another one.
struct self {
	__u64 cookie;
	__u32 pid;
	__u32 seen;
};

const volatile __u64 netns_cookie = 0;
const volatile __u32 spare_self = 1;
const volatile __u32 dns4 = 0;
const volatile __u32 dns4_port = 0;
const volatile __u32 dns6_a = 0, dns6_b = 0, dns6_c = 0, dns6_d = 0;
const volatile __u32 dns6_port = 0;

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, struct plan);
} plans SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} active SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 2048);
	__type(key, struct port_key);
	__type(value, __u32);
} ports SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, 32768);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct prefix_key);
	__type(value, struct prefix_rule);
} prefixes SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, 16384);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct route_key);
	__type(value, __u32);
} routes SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 8);
	__type(key, __u32);
	__type(value, struct turn);
} turns SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, struct address);
	__type(value, struct site);
} sites SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct own);
} owns SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 20);
} events SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} lost SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct self);
} selves SEC(".maps");

// Where a socket is about to go.
struct flow {
	__u32 to[4]; // IPv4 as ::ffff:a.b.c.d
	__u32 port;
	__u32 protocol;
	__u32 family; // of the packets
};

// The verifier wants fields of a socket or a context read at fixed places, and the compiler likes to add the place to the pointer first.
#define KEEP(value) asm volatile("" : "+r"(value))

#define ALWAYS static __attribute__((always_inline)) inline

ALWAYS struct plan *current_plan(__u32 *which)
{
	__u32 zero = 0, *index = bpf_map_lookup_elem(&active, &zero);

	if (!index || *index > 1)
		return 0;
	*which = *index;
	return bpf_map_lookup_elem(&plans, which);
}

ALWAYS int is_mapped(const __u32 *to)
{
	return to[0] == 0 && to[1] == 0 && to[2] == bpf_htonl(0xffff);
}

// Loopback, link-local, multicast, broadcast, unspecified.
ALWAYS int is_local(const __u32 *to)
{
	if (is_mapped(to)) {
		__u32 host = bpf_ntohl(to[3]);

		return host >> 24 == 0 || host >> 24 == 127 || host >> 16 == 0xa9fe || host >= 0xe0000000;
	}
	if (to[0] == 0 && to[1] == 0 && to[2] == 0)
		return 1;
	__u32 head = bpf_ntohl(to[0]);

	return head >> 24 == 0xff || head >> 22 == 0xfe80 >> 6;
}

ALWAYS int is_own_mark(__u32 mark)
{
	__u32 slot = (mark & ~MARK_MASK) - 1;

	return (mark & MARK_MASK) == MARK_BASE && slot < LINKS;
}

// The first TCP socket of user space to a port of the loopback tells which process is its own.
ALWAYS void prove(struct bpf_sock_addr *ctx)
{
	__u32 zero = 0;
	struct self *self = bpf_map_lookup_elem(&selves, &zero);

	if (self && !self->seen && self->cookie && self->cookie == bpf_get_socket_cookie(ctx)) {
		self->pid = bpf_get_current_pid_tgid() >> 32;
		self->seen = 1;
	}
}

ALWAYS int is_self(void)
{
	__u32 zero = 0;
	struct self *self;

	if (!spare_self)
		return 0;
	self = bpf_map_lookup_elem(&selves, &zero);
	return self && self->seen && self->pid == bpf_get_current_pid_tgid() >> 32;
}

struct verdict {
	__u32 action;
	__u32 slot;
};

// What the rules say. No branch for each condition: the verifier would follow all of them, for each rule.
__attribute__((noinline)) int judge(const struct flow *flow, __u32 which, struct verdict *verdict)
{
	struct plan *plan;
	__u32 order = ~0u, uid, comm[4] = {};

	if (!flow || !verdict || which > 1)
		return 0;
	verdict->action = 0;
	verdict->slot = NO_LINK;
	plan = bpf_map_lookup_elem(&plans, &which);
	if (!plan)
		return 0;
	if (plan->has_prefixes) {
		struct prefix_key key = { .length = 160, .slot = which };

		__builtin_memcpy(key.to, flow->to, 16);
		struct prefix_rule *found = bpf_map_lookup_elem(&prefixes, &key);

		if (found) {
			order = found->order;
			verdict->action = found->action;
			verdict->slot = found->slot;
		}
	}
	if (!plan->rule_count)
		return 0;
	uid = bpf_get_current_uid_gid();
	bpf_get_current_comm(comm, sizeof(comm));
	for (__u32 i = 0; i < RULES; i++) {
		if (i >= plan->rule_count)
			break;
		const struct rule *rule = &plan->rules[i];
		__u32 beyond = (flow->port - rule->port_first) & 0xffff;
		__u32 miss = (rule->port_span - beyond) >> 31;

		miss |= (flow->protocol ^ rule->protocol) & rule->protocol_mask;
		miss |= (uid ^ rule->uid) & rule->uid_mask;
		miss |= ((comm[0] ^ rule->comm[0]) | (comm[1] ^ rule->comm[1]) | (comm[2] ^ rule->comm[2]) |
			 (comm[3] ^ rule->comm[3])) &
			rule->comm_mask;
		miss |= (flow->to[0] & rule->mask[0]) ^ rule->to[0];
		miss |= (flow->to[1] & rule->mask[1]) ^ rule->to[1];
		miss |= (flow->to[2] & rule->mask[2]) ^ rule->to[2];
		miss |= (flow->to[3] & rule->mask[3]) ^ rule->to[3];
		if (!miss) {
			if (rule->order < order) {
				verdict->action = rule->action;
				verdict->slot = rule->slot;
			}
			break;
		}
	}
	return 0;
}

// Smooth weighted round robin: each gains its weight, the richest pays the sum. After any number of sockets no link is a whole one off.
// `forced` is a link that was chosen otherwise, and pays all the same, within a limit.
__attribute__((noinline)) int take_turn(__u32 which, __u32 index, __u32 allowed, __u32 forced)
{
	__s32 weights[LINKS];
	__s32 total = 0;
	__s32 richest = 0;
	__u32 best;
	__u32 class = index >> 2;
	struct plan *plan;
	struct turn *turn;

	if (which > 1 || class >= CLASSES)
		return NO_LINK;
	plan = bpf_map_lookup_elem(&plans, &which);
	turn = bpf_map_lookup_elem(&turns, &index);
	if (!plan || !turn)
		return NO_LINK;
#pragma unroll
	for (__u32 i = 0; i < LINKS; i++) {
		weights[i] = plan->weights[class][i] & -((allowed >> i) & 1);
		total += weights[i];
	}
	if (forced < LINKS && !total)
		return forced;
	if (!total) {
		// All that are left have no weight: each is as good.
#pragma unroll
		for (__u32 i = 0; i < LINKS; i++) {
			weights[i] = (allowed >> i) & 1;
			total += weights[i];
		}
	}
	if (!total)
		return NO_LINK;
	bpf_spin_lock(&turn->lock);
#pragma unroll
	for (__u32 i = 0; i < LINKS; i++) {
		__s32 credit = turn->credit[i] + weights[i];
		__s32 room = CREDIT_LIMIT - credit;
		__s32 over = room >> 31;
		KEEP(over);
		credit += room & over;
		// One number to compare: credit, then the lower slot; zero without weight. Without branches, for the verifier's sake.
		__s32 weighted = -weights[i] >> 31;
		KEEP(weighted);
		__s32 wealth = ((credit + 2 * CREDIT_LIMIT) << 5 | (31 - i)) & weighted;
		__s32 richer = (richest - wealth) >> 31;
		KEEP(richer);

		turn->credit[i] = credit;
		richest ^= (richest ^ wealth) & richer;
	}
	best = forced < LINKS ? forced : 31 - (richest & 31);
	best &= LINKS - 1;
	__s32 credit = turn->credit[best] - total;

	turn->credit[best] = credit < -CREDIT_LIMIT ? -CREDIT_LIMIT : credit;
	bpf_spin_unlock(&turn->lock);
	return best;
}

ALWAYS void tell(struct bpf_sock_addr *ctx, const struct flow *flow, __u32 kind, __u32 slot, __u32 reason)
{
	struct event *event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);
	__u32 zero = 0;

	if (!event) {
		__u64 *count = bpf_map_lookup_elem(&lost, &zero);

		if (count)
			__sync_fetch_and_add(count, 1);
		return;
	}
	__builtin_memset(event, 0, sizeof(*event));
	event->cookie = bpf_get_socket_cookie(ctx);
	event->at = bpf_ktime_get_ns();
	event->kind = kind;
	event->pid = bpf_get_current_pid_tgid() >> 32;
	event->uid = bpf_get_current_uid_gid();
	__builtin_memcpy(event->remote, flow->to, 16);
	event->remote_port = flow->port;
	event->slot = slot;
	event->reason = reason;
	event->family = flow->family;
	event->protocol = flow->protocol;
	bpf_get_current_comm(event->comm, sizeof(event->comm));
	bpf_ringbuf_submit(event, 0);
}

// The link for a flow, or NO_LINK if it is to be left alone. `had` is the link that the socket has, or NO_LINK.
// The link for a flow, or NO_LINK if it is to be left alone, and why in the second byte. `had` is the link that the socket has, or NO_LINK.
__attribute__((noinline)) int place(const struct flow *flow, __u32 which, __u32 had)
{
	struct plan *plan;
	struct verdict verdict;
	struct route_key route = { .length = 128 };
	struct port_key key = { .slot = which };
	struct site *site;
	__u32 v6, open, may, index, family, port = 0, *found, slot, reason = REASON_WEIGHT;
	__u64 now;

	if (!flow || which > 1)
		return NO_LINK;
	plan = bpf_map_lookup_elem(&plans, &which);
	if (!plan)
		return NO_LINK;
	judge(flow, which, &verdict);
	if (verdict.action == ACTION_BYPASS)
		return NO_LINK;
	__builtin_memcpy(route.to, flow->to, 16);
	if (bpf_map_lookup_elem(&routes, &route))
		return NO_LINK;
	if (verdict.action == ACTION_REFUSE)
		return REFUSED;
	v6 = flow->family == FAMILY_V6;
	family = v6 ? LINK_V6 : LINK_V4;
	open = plan->open[v6];
	slot = verdict.slot;
	if (verdict.action == ACTION_ONLY)
		return slot | REASON_RULE << 8;
	if (verdict.action == ACTION_USE && slot < LINKS && (open >> slot) & 1)
		return slot | REASON_RULE << 8;
	if (verdict.action == ACTION_AVOID && slot < LINKS && open & ~(1u << slot)) {
		open &= ~(1u << slot);
		if (had == slot)
			had = NO_LINK;
	}
	if (had < LINKS) {
		__u32 flags = plan->links[had].flags;

		if ((flags & (family | LINK_ALIVE)) == (family | LINK_ALIVE))
			return had | REASON_STICKY << 8;
		reason = REASON_FALLBACK;
		slot = plan->links[had].fallback;
		if (slot < LINKS && (open >> slot) & 1)
			return slot | reason << 8;
	}
	key.port = flow->port;
	found = bpf_map_lookup_elem(&ports, &key);
	if (found)
		port = *found;
	index = port & (flow->protocol == PROTOCOL_TCP ? PORT_INTERACTIVE_TCP : PORT_INTERACTIVE_UDP) ? 4 : 0;
	index += (flow->protocol == PROTOCOL_UDP) * 2 + v6;
	if (!(port & PORT_STICKY))
		return take_turn(which, index, open, NO_LINK) | reason << 8;
	now = bpf_ktime_get_ns();
	site = bpf_map_lookup_elem(&sites, flow->to);
	if (site && site->until > now) {
		may = plan->sites[v6];
		slot = site->slot;
		if (verdict.action == ACTION_AVOID)
			may &= open;
		if (slot < LINKS && (may >> slot) & 1) {
			site->until = now + plan->sticky_ns;
			take_turn(which, index, open, slot);
			return slot | REASON_STICKY << 8;
		}
	}
	slot = take_turn(which, index, open, NO_LINK);
	if (slot < LINKS) {
		struct site chosen = { .until = now + plan->sticky_ns, .slot = slot };

		bpf_map_update_elem(&sites, flow->to, &chosen, BPF_ANY);
	}
	return slot | reason << 8;
}

// Whether this is a TCP or UDP socket of our namespace that may be captured; fills in all of the flow but the address.
ALWAYS int is_ours(struct bpf_sock_addr *ctx, struct flow *flow)
{
	if (netns_cookie != bpf_get_netns_cookie(ctx))
		return 0;
	flow->protocol = ctx->protocol;
	flow->port = bpf_ntohs(ctx->user_port);
	return flow->protocol == PROTOCOL_TCP || flow->protocol == PROTOCOL_UDP;
}

ALWAYS int is_bound(struct bpf_sock *sk)
{
	__u32 source;

	if (sk->bound_dev_if)
		return 1;
	if (sk->family == FAMILY_V4) {
		source = sk->src_ip4;
		KEEP(source);
		return source != 0;
	}
	source = sk->src_ip6[0];
	KEEP(source);
	if (source)
		return 1;
	source = sk->src_ip6[1];
	KEEP(source);
	if (source)
		return 1;
	source = sk->src_ip6[2];
	KEEP(source);
	if (source && source != bpf_htonl(0xffff))
		return 1;
	source = sk->src_ip6[3];
	KEEP(source);
	return source != 0;
}

ALWAYS int fill_v4(struct bpf_sock_addr *ctx, struct flow *flow)
{
	flow->to[0] = flow->to[1] = 0;
	flow->to[2] = bpf_htonl(0xffff);
	flow->to[3] = ctx->user_ip4;
	flow->family = FAMILY_V4;
	return 1;
}

ALWAYS int fill_v6(struct bpf_sock_addr *ctx, struct flow *flow)
{
	flow->to[0] = ctx->user_ip6[0];
	flow->to[1] = ctx->user_ip6[1];
	flow->to[2] = ctx->user_ip6[2];
	flow->to[3] = ctx->user_ip6[3];
	flow->family = is_mapped(flow->to) ? FAMILY_V4 : FAMILY_V6;
	return 1;
}

// Sends a question for a resolver to bondwire's own forwarder, and remembers whom it was for.
ALWAYS int redirect(struct bpf_sock_addr *ctx, struct bpf_sock *sk, const struct flow *flow, int v6)
{
	struct own *own;

	if (flow->port != 53 || (flow->family == FAMILY_V4 ? !dns4_port : !dns6_port))
		return 0;
	own = bpf_sk_storage_get(&owns, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (!own)
		return 0;
	__builtin_memcpy(own->resolver, flow->to, 16);
	own->resolver_port = flow->port;
	if (!v6) {
		ctx->user_ip4 = dns4;
		ctx->user_port = bpf_htons(dns4_port);
	} else if (flow->family == FAMILY_V4) {
		ctx->user_ip6[3] = dns4;
		ctx->user_port = bpf_htons(dns4_port);
	} else {
		ctx->user_ip6[0] = dns6_a;
		ctx->user_ip6[1] = dns6_b;
		ctx->user_ip6[2] = dns6_c;
		ctx->user_ip6[3] = dns6_d;
		ctx->user_port = bpf_htons(dns6_port);
	}
	return 1;
}

ALWAYS int on_connect(struct bpf_sock_addr *ctx, struct flow *flow, int v6)
{
	struct bpf_sock *sk = ctx->sk;
	struct plan *plan;
	struct own *own;
	__u32 which, slot, mark, reason = 0;

	if (!sk)
		return 1;
	if (is_local(flow->to)) {
		prove(ctx);
		return 1;
	}
	if (is_self())
		return 1;
	own = bpf_sk_storage_get(&owns, sk, 0, 0);
	mark = sk->mark;
	if (mark && (!own || own->mark != mark))
		return 1;
	// A source that was chosen before, by the application or by an earlier connect, decides.
	if (is_bound(sk))
		return 1;
	if (redirect(ctx, sk, flow, v6))
		return 1;
	plan = current_plan(&which);
	if (!plan)
		return 1;
	slot = place(flow, which, NO_LINK);
	reason = slot >> 8;
	slot &= 0xff;
	if (slot == REFUSED)
		return 0;
	if (slot >= LINKS) {
		if (mark) {
			// It was ours when it connected somewhere else before.
			mark = 0;
			bpf_setsockopt(ctx, LEVEL_SOCKET, OPTION_MARK, &mark, sizeof(mark));
			if (own)
				own->mark = 0;
		}
		return 1;
	}
	own = bpf_sk_storage_get(&owns, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (!own)
		return 1;
	mark = plan->links[slot & (LINKS - 1)].mark;
	if (bpf_setsockopt(ctx, LEVEL_SOCKET, OPTION_MARK, &mark, sizeof(mark)))
		return 1;
	own->mark = mark;
	own->slot = slot;
	own->is_set = 1;
	tell(ctx, flow, KIND_OPENED, slot, reason);
	return 1;
}

ALWAYS int on_send(struct bpf_sock_addr *ctx, struct flow *flow, int v6)
{
	struct bpf_sock *sk = ctx->sk;
	struct plan *plan;
	struct own *own;
	const struct link *link;
	__u32 which, slot, had, reason = 0;
	__u64 now;

	if (!sk || flow->protocol != PROTOCOL_UDP)
		return 1;
	// One that is older than this program stays where it is.
	own = bpf_sk_storage_get(&owns, sk, 0, 0);
	if (!own || own->passive)
		return 1;
	own->sent = 1;
	if (is_local(flow->to) || sk->mark || is_bound(sk) || is_self())
		return 1;
	// A source in the message itself is the application's choice.
	if (v6 ? ctx->msg_src_ip6[0] || ctx->msg_src_ip6[1] || ctx->msg_src_ip6[2] || ctx->msg_src_ip6[3] : ctx->msg_src_ip4)
		return 1;
	if (redirect(ctx, sk, flow, v6))
		return 1;
	plan = current_plan(&which);
	if (!plan)
		return 1;
	now = bpf_ktime_get_ns();
	had = own->is_set && now - own->used < plan->idle_ns ? own->slot : NO_LINK;
	own->used = now;
	if (had != NO_LINK || own->bypass) {
		if (own->epoch == plan->epoch && own->last_port == flow->port && own->last[0] == flow->to[0] &&
		    own->last[1] == flow->to[1] && own->last[2] == flow->to[2] && own->last[3] == flow->to[3]) {
			if (own->bypass)
				return 1;
			slot = had;
			goto chosen;
		}
	}
	slot = place(flow, which, had);
	reason = slot >> 8;
	slot &= 0xff;
	if (slot == REFUSED)
		return 0;
	own->epoch = plan->epoch;
	own->last_port = flow->port;
	__builtin_memcpy(own->last, flow->to, 16);
	own->bypass = slot >= LINKS;
	if (slot >= LINKS)
		return 1;
	// A rule for this destination speaks for this datagram, not for the socket.
	if (slot != had && (reason != REASON_RULE || had == NO_LINK)) {
		own->slot = slot;
		own->is_set = 1;
		tell(ctx, flow, had == NO_LINK ? KIND_OPENED : KIND_MOVED, slot, reason);
	} else if (slot != had) {
		own->last_port = 0;
	}
chosen:
	link = &plan->links[slot & (LINKS - 1)];
	if (!v6) {
		if (link->flags & LINK_V4)
			ctx->msg_src_ip4 = link->v4;
	} else if (link->flags & LINK_V6) {
		ctx->msg_src_ip6[0] = link->v6[0];
		ctx->msg_src_ip6[1] = link->v6[1];
		ctx->msg_src_ip6[2] = link->v6[2];
		ctx->msg_src_ip6[3] = link->v6[3];
	}
	return 1;
}

// A UDP socket that receives before it ever sent is a server. One whose question was redirected sees whom it asked.
ALWAYS int on_receive(struct bpf_sock_addr *ctx, int v6)
{
	struct bpf_sock *sk = ctx->sk;
	struct own *own;

	if (!sk || netns_cookie != bpf_get_netns_cookie(ctx))
		return 1;
	own = bpf_sk_storage_get(&owns, sk, 0, 0);
	if (!own)
		return 1;
	if (!own->sent && !own->mark && !own->resolver_port)
		own->passive = 1;
	if (!own->resolver_port)
		return 1;
	__u32 from = bpf_ntohs(ctx->user_port);

	if (!v6) {
		if (ctx->user_ip4 == dns4 && from == dns4_port && is_mapped(own->resolver)) {
			ctx->user_ip4 = own->resolver[3];
			ctx->user_port = bpf_htons(own->resolver_port);
		}
	} else if (is_mapped(own->resolver)) {
		if (ctx->user_ip6[2] == bpf_htonl(0xffff) && ctx->user_ip6[3] == dns4 && from == dns4_port) {
			ctx->user_ip6[3] = own->resolver[3];
			ctx->user_port = bpf_htons(own->resolver_port);
		}
	} else if (ctx->user_ip6[0] == dns6_a && ctx->user_ip6[3] == dns6_d && from == dns6_port) {
		ctx->user_ip6[0] = own->resolver[0];
		ctx->user_ip6[1] = own->resolver[1];
		ctx->user_ip6[2] = own->resolver[2];
		ctx->user_ip6[3] = own->resolver[3];
		ctx->user_port = bpf_htons(own->resolver_port);
	}
	return 1;
}

SEC("cgroup/connect4")
int connect4(struct bpf_sock_addr *ctx)
{
	struct flow flow;

	return is_ours(ctx, &flow) && fill_v4(ctx, &flow) ? on_connect(ctx, &flow, 0) : 1;
}

SEC("cgroup/connect6")
int connect6(struct bpf_sock_addr *ctx)
{
	struct flow flow;

	return is_ours(ctx, &flow) && fill_v6(ctx, &flow) ? on_connect(ctx, &flow, 1) : 1;
}

SEC("cgroup/sendmsg4")
int sendmsg4(struct bpf_sock_addr *ctx)
{
	struct flow flow;

	return is_ours(ctx, &flow) && fill_v4(ctx, &flow) ? on_send(ctx, &flow, 0) : 1;
}

SEC("cgroup/sendmsg6")
int sendmsg6(struct bpf_sock_addr *ctx)
{
	struct flow flow;

	return is_ours(ctx, &flow) && fill_v6(ctx, &flow) ? on_send(ctx, &flow, 1) : 1;
}

SEC("cgroup/recvmsg4")
int recvmsg4(struct bpf_sock_addr *ctx)
{
	return on_receive(ctx, 0);
}

SEC("cgroup/recvmsg6")
int recvmsg6(struct bpf_sock_addr *ctx)
{
	return on_receive(ctx, 1);
}

SEC("cgroup/getpeername4")
int getpeername4(struct bpf_sock_addr *ctx)
{
	struct bpf_sock *sk = ctx->sk;
	struct own *own = sk && netns_cookie == bpf_get_netns_cookie(ctx) ? bpf_sk_storage_get(&owns, sk, 0, 0) : 0;

	if (own && own->resolver_port && ctx->user_ip4 == dns4 && bpf_ntohs(ctx->user_port) == dns4_port) {
		ctx->user_ip4 = own->resolver[3];
		ctx->user_port = bpf_htons(own->resolver_port);
	}
	return 1;
}

SEC("cgroup/getpeername6")
int getpeername6(struct bpf_sock_addr *ctx)
{
	struct bpf_sock *sk = ctx->sk;
	struct own *own = sk && netns_cookie == bpf_get_netns_cookie(ctx) ? bpf_sk_storage_get(&owns, sk, 0, 0) : 0;
	__u32 port = bpf_ntohs(ctx->user_port);

	if (own && own->resolver_port && (port == dns4_port || port == dns6_port)) {
		ctx->user_ip6[0] = own->resolver[0];
		ctx->user_ip6[1] = own->resolver[1];
		ctx->user_ip6[2] = own->resolver[2];
		ctx->user_ip6[3] = own->resolver[3];
		ctx->user_port = bpf_htons(own->resolver_port);
	}
	return 1;
}

SEC("cgroup/sock_create")
int sock_create(struct bpf_sock *sk)
{
	if (sk->protocol == PROTOCOL_UDP && netns_cookie == bpf_get_netns_cookie(sk))
		bpf_sk_storage_get(&owns, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	return 1;
}

SEC("cgroup/sock_release")
int sock_release(struct bpf_sock *sk)
{
	struct event *event;
	struct own *own;
	__u32 zero = 0;

	if (sk->protocol != PROTOCOL_UDP || netns_cookie != bpf_get_netns_cookie(sk))
		return 1;
	own = bpf_sk_storage_get(&owns, sk, 0, 0);
	if (!own || !own->is_set)
		return 1;
	event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);
	if (!event) {
		__u64 *count = bpf_map_lookup_elem(&lost, &zero);

		if (count)
			__sync_fetch_and_add(count, 1);
		return 1;
	}
	__builtin_memset(event, 0, sizeof(*event));
	event->cookie = bpf_get_socket_cookie(sk);
	event->at = bpf_ktime_get_ns();
	event->kind = KIND_CLOSED;
	event->slot = own->slot;
	event->family = sk->family;
	event->protocol = PROTOCOL_UDP;
	bpf_ringbuf_submit(event, 0);
	return 1;
}

// The kernel's ticks per second are not told to programs, but follow from its counter and its clock.
ALWAYS __u64 ticks_per_second(void)
{
	__u64 ms = bpf_ktime_get_ns() / 1000000, jiffies = bpf_jiffies64();

	if (ms > 302000 && jiffies > FIRST_JIFFIES)
		return ((jiffies - FIRST_JIFFIES) * 1000 + (ms - 300000) / 2) / (ms - 300000);
	if (ms < 298000 && jiffies < FIRST_JIFFIES)
		return ((FIRST_JIFFIES - jiffies) * 1000 + (300000 - ms) / 2) / (300000 - ms);
	return 250;
}

ALWAYS void tell_tcp(struct bpf_sock_ops *ops, __u32 kind, __u32 mark, __u32 a, __u32 b)
{
	struct event *event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);
	__u32 zero = 0;

	if (!event) {
		__u64 *count = bpf_map_lookup_elem(&lost, &zero);

		if (count)
			__sync_fetch_and_add(count, 1);
		return;
	}
	__builtin_memset(event, 0, sizeof(*event));
	event->cookie = bpf_get_socket_cookie(ops);
	event->at = bpf_ktime_get_ns();
	event->kind = kind;
	event->slot = mark - MARK_BASE - 1;
	event->a = a;
	event->b = b;
	event->protocol = PROTOCOL_TCP;
	event->bytes_up = ops->bytes_acked;
	event->bytes_down = ops->bytes_received;
	event->local_port = ops->local_port;
	event->remote_port = bpf_ntohl(ops->remote_port);
	if (ops->family == FAMILY_V4) {
		event->local[2] = event->remote[2] = bpf_htonl(0xffff);
		event->local[3] = ops->local_ip4;
		event->remote[3] = ops->remote_ip4;
	} else {
		event->local[0] = ops->local_ip6[0];
		event->local[1] = ops->local_ip6[1];
		event->local[2] = ops->local_ip6[2];
		event->local[3] = ops->local_ip6[3];
		event->remote[0] = ops->remote_ip6[0];
		event->remote[1] = ops->remote_ip6[1];
		event->remote[2] = ops->remote_ip6[2];
		event->remote[3] = ops->remote_ip6[3];
	}
	event->family = is_mapped(event->remote) ? FAMILY_V4 : FAMILY_V6;
	bpf_ringbuf_submit(event, 0);
}

SEC("sockops")
int tcp_events(struct bpf_sock_ops *ops)
{
	struct bpf_sock *sk;
	struct plan *plan;
	__u32 which, mark, slot, state;

	switch (ops->op) {
	case BPF_SOCK_OPS_TIMEOUT_INIT:
	case BPF_SOCK_OPS_TCP_CONNECT_CB:
	case BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB:
	case BPF_SOCK_OPS_RTO_CB:
	case BPF_SOCK_OPS_STATE_CB:
		break;
	default:
		return 1;
	}
	sk = ops->sk;
	if (!sk)
		return 1;
	mark = sk->mark;
	if (!is_own_mark(mark) || netns_cookie != bpf_get_netns_cookie(ops))
		return 1;
	slot = (mark & ~MARK_MASK) - 1;
	switch (ops->op) {
	case BPF_SOCK_OPS_TIMEOUT_INIT:
		// The kernel takes what stands in `reply`; -1 keeps its own.
		ops->reply = -1;
		plan = current_plan(&which);
		if (plan && plan->links[slot & (LINKS - 1)].syn_ms)
			ops->reply = plan->links[slot & (LINKS - 1)].syn_ms * ticks_per_second() / 1000;
		return 1;
	case BPF_SOCK_OPS_TCP_CONNECT_CB:
		bpf_sock_ops_cb_flags_set(ops, BPF_SOCK_OPS_RTO_CB_FLAG | BPF_SOCK_OPS_STATE_CB_FLAG);
		break;
	case BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB:
		tell_tcp(ops, KIND_CONNECTED, mark, ops->srtt_us >> 3, 0);
		break;
	case BPF_SOCK_OPS_RTO_CB:
		tell_tcp(ops, KIND_TIMEOUT, mark, ops->args[0], ops->state);
		break;
	case BPF_SOCK_OPS_STATE_CB:
		state = ops->args[0];
		if (ops->args[1] == STATE_CLOSE)
			tell_tcp(ops, KIND_CLOSED, mark, ops->total_retrans, state);
		break;
	}
	return 1;
}

char program_license[] SEC("license") = "MIT";
