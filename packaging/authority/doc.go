// Package authority holds the table of docs/protocol.md 15 against the code: who may say
// what, under which certificate. For each row, a certificate of every other role, and of
// other resources, tenants and epochs, is refused.
//
// It is tests alone; no binary links it.
package authority
