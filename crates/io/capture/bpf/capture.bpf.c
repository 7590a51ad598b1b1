// SPDX-License-Identifier: MIT OR Apache-2.0
//
// Which link a socket of this machine leaves by, decided when it connects or sends.
//
// Programs of one cgroup, usually the root of cgroup2, so they see every socket of the machine. The first thing that each
// does is to compare the network namespace; all others' sockets pass untouched. User space writes plans, the programs carry
// them out; the loader compares the sizes of what both share.
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

#include "layout.h"
#include "choose.h"
#include "sockets.h"
#include "tcp.h"

char program_license[] SEC("license") = "MIT";
