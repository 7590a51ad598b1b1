// SPDX-License-Identifier: MIT OR Apache-2.0
//
// Which link: rules, then what the socket or the site has, then whose turn it is. No program of its own.

#pragma once

#include "layout.h"

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

// Whether this is a question for one of the system's resolvers of which neither a rule nor a route speaks. The resolver may be a link's neighbour.
__attribute__((noinline)) int is_question(const struct flow *flow, __u32 which)
{
	struct route_key route = { .length = 128 };
	struct verdict verdict;
	__u32 *found;

	if (!flow || which > 1)
		return 0;
	if (flow->port != 53 || !bpf_map_lookup_elem(&resolvers, flow->to))
		return 0;
	judge(flow, which, &verdict);
	if (verdict.action && verdict.action != ACTION_CHOOSE)
		return 0;
	__builtin_memcpy(route.to, flow->to, 16);
	found = bpf_map_lookup_elem(&routes, &route);
	return !found || *found == ROUTE_NEAR;
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
	if (!open && plan->refuse >> v6 & 1)
		return REFUSED;
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
