// Package vtpm collects TPM 2.0 quotes from the guest's own TPM, with the values of the quoted
// PCRs, reads the kernel's log of the measured boot, and reads and writes the TPM's small memory,
// where clouds keep certificates and reports.
//
// A quote that [Collector.Collect] returns answers the given nonce, and its values are those that
// were quoted: registers that changed in between are read again. Only one command is in flight at
// a time; other callers queue within their deadlines, and every call returns at its deadline even
// if the TPM never answers. The package trusts the kernel's resource manager to be the guest's
// own; nobody trusts a quote before the broker has appraised it. Everything that the TPM returns
// is bounded. It refuses TPMs that lack the bank of PCRs asked for. The agent calls it.
//
// Formats: TPM 2.0 Library, parts 2 and 3.
package vtpm
