package policy

import "fmt"

// settings are where a policy's file configures each check, below "require"; empty where there is
// nothing to configure there. The name of a check and that of its setting differ where the setting is a
// list or a minimum.
func settings() [numChecks]string {
	return [numChecks]string{
		checkKind: "kinds", checkMeasurement: "reference_values",
		checkAgentBuild: "agent_builds", checkImage: "image_ids", checkTenant: "tenants",
		checkMemoryLimit: "memory_limit", checkClockSource: "clock_sources",

		checkProduct: "sev_snp.products", checkVMPL: "sev_snp.vmpl",
		checkTCBReported: "sev_snp.minimum_tcb", checkTCBCommitted: "sev_snp.minimum_tcb",
		checkTCBLaunch: "sev_snp.minimum_tcb", checkTCBCurrent: "sev_snp.minimum_tcb",
		checkFirmware: "sev_snp.minimum_firmware", checkReportVersion: "sev_snp.minimum_report_version",
		checkMitigations: "sev_snp.mitigations", checkVLEK: "sev_snp.vlek_providers", checkChipIDs: "sev_snp.chip_ids",
		checkPlatformInfo: "sev_snp.platform_info", checkGuestPolicy: "sev_snp.guest_policy",
		checkIDKey: "sev_snp.id_key_digests", checkAuthorKey: "sev_snp.author_key_digests",
		checkGuestSVN: "sev_snp.minimum_guest_svn", checkFamilyID: "sev_snp.family_ids",
		checkBlockImageID: "sev_snp.id_block_image_ids", checkHostData: "sev_snp.host_data",

		checkTDXTCB: "tdx.tcb_statuses", checkTDXAdvisories: "tdx.accepted_advisories",
		checkTDXEvaluation: "tdx.minimum_evaluation_number", checkTDXAttributes: "tdx.attributes",
		checkTDXXFAM: "tdx.xfam", checkTDXModule: "tdx.mr_seams", checkTDXModuleSigner: "tdx.mr_signer_seams",
		checkTDXServiceTD: "tdx.mr_service_tds", checkTDXConfigID: "tdx.mr_config_ids",
		checkTDXOwner: "tdx.mr_owners", checkTDXOwnerConfig: "tdx.mr_owner_configs", checkTDXPlatform: "tdx.fmspcs",

		checkTPMKey: "tpm.ak_trust", checkTPMPCRs: "tpm.pcrs", checkTPMBinding: "tpm.binding",
		checkTPMInstance: "tpm.instances", checkAzure: "azure", checkEventLog: "event_log",
		checkTPMEventLog: "event_log.registers", checkGPU: "gpu",
	}
}

// withSetting is a check's name with that of its setting, for whoever has to write it.
func withSetting(id int) string {
	name, setting := checks()[id].name, settings()[id]
	if setting == "" {
		return name
	}
	return fmt.Sprintf("%s (%s)", name, setting)
}
