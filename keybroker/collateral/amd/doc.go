// Package amd fetches what AMD's key distribution service hands out, and verifies it: chip
// certificates (VCEK), their authorities, revocation lists.
//
// What was fetched is returned only if its chain ends at a root that package appraise pins and if
// it is about what was asked for: the very chip, the very version, the very product line. The URLs
// are those of the VCEK Certificate and KDS Interface Specification (57230), below a base that the
// operator chose. VLEKs are not served to strangers; the guest's host brings them.
package amd
