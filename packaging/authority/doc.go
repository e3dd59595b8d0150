// Package authority tests the table of docs/protocol.md 15, which says who may say what and under
// which certificate. For each row, a certificate of every other role, and of other resources,
// tenants and epochs, is refused.
//
// It contains only tests; no program links it.
package authority
