package luks

import "github.com/anchorhold/anchorhold/crypto/refusal"

// Reasons of this package.
const (
	// ReasonFormat: not a LUKS2 header in the form that cryptsetup writes.
	ReasonFormat refusal.Reason = "luks-format"
	// ReasonVersion: LUKS1, or a later version.
	ReasonVersion refusal.Reason = "luks-version"
	// ReasonChecksum: a copy's checksum is wrong.
	ReasonChecksum refusal.Reason = "luks-checksum"
	// ReasonCopies: the two copies of the header differ.
	ReasonCopies refusal.Reason = "luks-copies-differ"
	// ReasonCipher: a cipher, for data or a key slot, that is not accepted; the null cipher is one.
	ReasonCipher refusal.Reason = "luks-cipher"
	// ReasonUnauthenticated: the sectors are not authenticated, and the configuration does not permit that.
	ReasonUnauthenticated refusal.Reason = "luks-unauthenticated"
	// ReasonSegment: not one encrypted segment with plain parameters.
	ReasonSegment refusal.Reason = "luks-segment"
	// ReasonKeyslot: not one ordinary key slot.
	ReasonKeyslot refusal.Reason = "luks-keyslot"
	// ReasonCost: a key derivation that takes too much time or memory.
	ReasonCost refusal.Reason = "luks-cost"
	// ReasonDigest: not one ordinary digest of the volume key.
	ReasonDigest refusal.Reason = "luks-digest"
	// ReasonToken: the header has tokens, which name plugins and other ways to a key.
	ReasonToken refusal.Reason = "luks-token"
	// ReasonRequirements: flags or requirements, such as those of an unfinished re-encryption.
	ReasonRequirements refusal.Reason = "luks-requirements"
	// ReasonSize: an area outside the device, over another one, or larger than the limits.
	ReasonSize refusal.Reason = "luks-size"
)
