// SPDX-License-Identifier: MIT OR Apache-2.0
//
// What becomes of TCP connections that were led: told to user space; and when their first SYN is repeated.

#pragma once

#include "choose.h"

ALWAYS int is_own_mark(__u32 mark)
{
	__u32 slot = (mark & ~MARK_MASK) - 1;

	return (mark & MARK_MASK) == MARK_BASE && slot < LINKS;
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
		// Beside what another program asked for.
		bpf_sock_ops_cb_flags_set(ops, ops->bpf_sock_ops_cb_flags | BPF_SOCK_OPS_RTO_CB_FLAG |
						       BPF_SOCK_OPS_STATE_CB_FLAG);
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
