// Package pcr computes the values of a TPM's registers and of a trust domain's RTMRs that a boot of a unified
// kernel image leaves behind, from what firmware, stub and systemd extend into them.
//
// A register begins as zeros, and each event replaces it by the hash of its value and the event's digest. [PCR4],
// [PCR11], and [RTMR1] list the events of the register in order ([Event]), so that a difference from a real log can
// be shown event by event; [Bank.Replay] gives the value.
//
// Computed are boots in which firmware starts the image itself: no shim, no boot loader, no attempt that failed
// before. Other boots end in other values, which a policy with these values refuses.
package pcr
