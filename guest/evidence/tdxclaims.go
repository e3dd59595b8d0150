package evidence

import "time"

// TCBStatus is Intel's word for how current a platform, a module or a quoting enclave is, or
// [TCBUnmatched]. Of several, the worst counts ([TCBStatus.Worse]).
type TCBStatus string

// Statuses, from the best to the worst (Intel PCS API version 4, TCB info and enclave identity).
const (
	TCBUpToDate                          TCBStatus = "UpToDate"
	TCBSWHardeningNeeded                 TCBStatus = "SWHardeningNeeded"
	TCBConfigurationNeeded               TCBStatus = "ConfigurationNeeded"
	TCBConfigurationAndSWHardeningNeeded TCBStatus = "ConfigurationAndSWHardeningNeeded"
	// TCBRelaunchAdvised: the guest was launched on a module that is out of date by now, and the
	// module that runs now is not (Intel QVL, TDRelaunchCheck.cpp).
	TCBRelaunchAdvised                    TCBStatus = "TDRelaunchAdvised"
	TCBRelaunchAdvisedConfigurationNeeded TCBStatus = "TDRelaunchAdvisedConfigurationNeeded"
	TCBOutOfDate                          TCBStatus = "OutOfDate"
	TCBOutOfDateConfigurationNeeded       TCBStatus = "OutOfDateConfigurationNeeded"
	// TCBUnmatched: the platform is below every level that Intel lists, or of no listed module.
	TCBUnmatched TCBStatus = "Unmatched"
	TCBRevoked   TCBStatus = "Revoked"
)

func tcbStatuses() []TCBStatus {
	return []TCBStatus{TCBUpToDate, TCBSWHardeningNeeded, TCBConfigurationNeeded, TCBConfigurationAndSWHardeningNeeded,
		TCBRelaunchAdvised, TCBRelaunchAdvisedConfigurationNeeded, TCBOutOfDate, TCBOutOfDateConfigurationNeeded, TCBUnmatched, TCBRevoked}
}

// rank is the place in that order; an unknown status stands behind all.
func (s TCBStatus) rank() int {
	for i, known := range tcbStatuses() {
		if s == known {
			return i
		}
	}
	return len(tcbStatuses())
}

// Known reports whether this version knows the status.
func (s TCBStatus) Known() bool { return s.rank() < len(tcbStatuses()) }

// Worse reports whether s is worse than other. An unknown status is worse than any other.
func (s TCBStatus) Worse(other TCBStatus) bool { return s.rank() > other.rank() }

// TDXClaims are what a verified TDX quote says (Intel TDX DCAP Quoting Library API, quote
// versions 4 and 5; TDX Module ABI, TDREPORT_STRUCT).
type TDXClaims struct {
	// QuoteVersion is 4 or 5.
	QuoteVersion uint16 `json:"quote_version"`
	// BodyType is 2 for TDX 1.0, 3 for TDX 1.5, 4 for TDX 1.5 with the initial TCB of a service
	// trust domain. Version 4 quotes are of type 2.
	BodyType uint16 `json:"body_type"`
	// FMSPC names the platform's family, model, stepping and custom SKU, 6 bytes.
	FMSPC Hex `json:"fmspc"`
	// PCEID names the provisioning certification enclave, 2 bytes.
	PCEID Hex `json:"pce_id"`
	// ProcessorCA: the platform's key was certified by Intel's Processor CA, not the Platform CA.
	ProcessorCA bool `json:"processor_ca"`
	// TEETCBSVN and TEETCBSVN2 are the TDX module's version, at the launch and now, 16 bytes
	// each; the second only in TDX 1.5.
	TEETCBSVN  Hex `json:"tee_tcb_svn"`
	TEETCBSVN2 Hex `json:"tee_tcb_svn2,omitempty"`
	// InitialServiceTCB is the TCB that the service trust domain began with, 16 bytes; only in
	// body type 4.
	InitialServiceTCB Hex `json:"initial_service_tcb,omitempty"`
	// MRSEAM and MRSignerSEAM name the TDX module and its signer (zeros: Intel), 48 bytes each.
	MRSEAM       Hex `json:"mr_seam"`
	MRSignerSEAM Hex `json:"mr_signer_seam"`
	// SEAMAttributes, TDAttributes and XFAM are as signed, little-endian in the quote.
	SEAMAttributes uint64 `json:"seam_attributes"`
	TDAttributes   uint64 `json:"td_attributes"`
	XFAM           uint64 `json:"xfam"`
	// MRTD measures the firmware, RTMR what firmware, boot loader and system extended; 48 bytes each.
	MRTD Hex    `json:"mr_td"`
	RTMR [4]Hex `json:"rtmr"`
	// MRConfigID, MROwner and MROwnerConfig are the host's words at launch, 48 bytes each.
	MRConfigID    Hex `json:"mr_config_id"`
	MROwner       Hex `json:"mr_owner"`
	MROwnerConfig Hex `json:"mr_owner_config"`
	// MRServiceTD names the service trust domains bound to this one, zeros for none; 48 bytes,
	// only in TDX 1.5.
	MRServiceTD Hex `json:"mr_service_td,omitempty"`
	// Extended is what a body of type 4 says besides; nil in others.
	Extended *TDXExtended `json:"extended,omitempty"`
	// PlatformInstance names the platform, 16 bytes, if its certificate is the Platform CA's.
	PlatformInstance Hex `json:"platform_instance,omitempty"`
	// SoftwareTEE: signed under the root of a software TEE. It proves nothing.
	SoftwareTEE bool `json:"software_tee,omitempty"`
	// TCB is how current all of it is.
	TCB TDXTCB `json:"tcb"`
}

// TDXExtended is what the extended TD 1.5 report adds (Intel DCAP, sgx_quote_5.h,
// sgx_report2_body_v1_5_ex_t): where the guest began, and with which service trust domain, before
// it was moved or its module updated.
type TDXExtended struct {
	// VMID is 0 for the first partition of the guest.
	VMID uint8 `json:"vm_id"`
	// TDID names this guest instance, 32 bytes.
	TDID Hex `json:"td_id"`
	// DeviceInfo is the digest of the devices that the guest accepted, 48 bytes.
	DeviceInfo Hex `json:"device_info"`
	// InitialServiceTD and CurrentServiceTD are the digests of the service trust domain that was
	// bound first and of the one bound now, 48 bytes each, with their attributes.
	InitialServiceTD           Hex    `json:"initial_service_td"`
	InitialServiceTDAttributes uint64 `json:"initial_service_td_attributes"`
	CurrentServiceTD           Hex    `json:"current_service_td"`
	CurrentServiceTDAttributes uint64 `json:"current_service_td_attributes"`
	// InitialCPUSVN and InitialTEETCBSVN (16 bytes each) and InitialFMSPC (12 bytes) are the
	// platform on which the guest began.
	InitialCPUSVN    Hex `json:"initial_cpu_svn"`
	InitialTEETCBSVN Hex `json:"initial_tee_tcb_svn"`
	InitialFMSPC     Hex `json:"initial_fmspc"`
}

// TDXTCB is the judgement of a platform by Intel's TCB info and QE identity.
type TDXTCB struct {
	// Status joins the three below it, of which the worst counts, and Current.
	Status TCBStatus `json:"status"`
	// Platform, Module and QE are judged by TEETCBSVN, the module at launch.
	Platform TCBStatus `json:"platform"`
	Module   TCBStatus `json:"module"`
	QE       TCBStatus `json:"qe"`
	// Current is what Status would be by TEETCBSVN2, the module that runs now; only in TDX 1.5.
	Current TCBStatus `json:"current,omitempty"`
	// Date is the oldest date of the levels that matched; zero if none did.
	Date time.Time `json:"date"`
	// EvaluationNumber is the lower tcbEvaluationDataNumber of the two documents.
	EvaluationNumber uint32 `json:"evaluation_number"`
	// Advisories are Intel's, of every level that matched, sorted.
	Advisories []string `json:"advisories,omitempty"`
	// CPUSVN (16 bytes) and PCESVN are the platform's version in its certificate; QESVN is the
	// quoting enclave's.
	CPUSVN Hex    `json:"cpu_svn"`
	PCESVN uint16 `json:"pce_svn"`
	QESVN  uint16 `json:"qe_svn"`
	// CollateralUntil is the earliest end among the documents and lists that were used.
	CollateralUntil time.Time `json:"collateral_until"`
}

// Bits of TDATTRIBUTES (Intel TDX Module ABI, ATTRIBUTES).
const (
	TDAttributeDebug         = 1 << 0
	TDAttributeSEPTVEDisable = 1 << 28
	TDAttributeMigratable    = 1 << 29
	TDAttributePKS           = 1 << 30
	TDAttributeKL            = 1 << 31
	TDAttributePerfmon       = 1 << 63
)
