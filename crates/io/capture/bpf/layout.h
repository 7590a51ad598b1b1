// SPDX-License-Identifier: MIT OR Apache-2.0
//
// What the programs and user space share, and the maps that hold it. Mirrored in src/layout.rs.

#pragma once

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
#define KIND_ACTIVE 6 // a socket that only sends, which nobody else can see

#define ROUTE_SPECIFIC 1
#define ROUTE_NEAR 2 // a network that a link is connected to

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
	__u32 refuse;   // families whose sockets are refused while no link takes them, a bit each
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
	__u8 unused[3];
	__u32 told; // when user space heard of it last, in 2^30 ns
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
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 64);
	__type(key, struct address);
	__type(value, __u32);
} resolvers SEC(".maps");

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
