// Package bundle carries collateral to brokers without a network, in one signed file.
//
// [Write] lists the items with their sizes and digests, signs the list with an identity of the
// operator's under [Context], and appends the items. [Read] verifies the signature by an identity
// that its caller trusts before it believes any of the list, then hands over one item after the
// other, each of the listed size and digest. It trusts nothing else: who calls it verifies each
// item up to the vendor's root and refuses what is older than what is kept, so the operator's
// signature adds to the vendors' and replaces none of it.
//
// The file, where (n) is an n-byte big-endian length before the field:
//
//	label "anchorhold/collateral/bundle/1" (1) | time made, u64 milliseconds since 1970 |
//	the signer's public identity (2) | count, u32 |
//	each item: key (1) | size, u32 | SHA-256, 32 bytes |
//	signature (2) over all before it | the items, one after the other
//
// Keys stand in the order of package collateral's kinds, within a kind in the order of their text,
// each once. An item is encoded as [collateral.Item] describes. Nothing follows the last one.
package bundle
