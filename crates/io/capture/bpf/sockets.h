// SPDX-License-Identifier: MIT OR Apache-2.0
//
// Sockets that connect, send, receive and close: the programs of a cgroup.

#pragma once

#include "choose.h"

// That a socket goes on sending is told so often, in 2^30 ns: several times before it counts as idle.
#define TELL_EVERY 4

// A socket that user space connects to the loopback tells that the programs are called, and for which process.
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
ALWAYS int redirect(struct bpf_sock_addr *ctx, struct bpf_sock *sk, const struct flow *flow, __u32 which, int v6)
{
	struct own *own;

	if (flow->port != 53 || (flow->family == FAMILY_V4 ? !dns4_port : !dns6_port) || !is_question(flow, which))
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
	plan = current_plan(&which);
	if (!plan)
		return 1;
	if (redirect(ctx, sk, flow, which, v6))
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
	plan = current_plan(&which);
	if (!plan)
		return 1;
	if (redirect(ctx, sk, flow, which, v6))
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
		own->told = now >> 30;
		tell(ctx, flow, had == NO_LINK ? KIND_OPENED : KIND_MOVED, slot, reason);
	} else if (slot != had) {
		own->last_port = 0;
	}
chosen:
	if ((__u32)(now >> 30) - own->told >= TELL_EVERY) {
		own->told = now >> 30;
		tell(ctx, flow, KIND_ACTIVE, own->slot, 0);
	}
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
