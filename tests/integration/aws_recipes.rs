//! What is shipped to run the exporter on AWS: trust policies, and the `CloudFormation` template for Amazon ECS.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::support::{shipped, text, yaml};

pub const TEMPLATE: &str = "config/aws/ecs.yaml";
const README: &str = "config/aws/README.md";
const ROLE_NAME: &str = "aws-iot-jobs-exporter";

fn json(path: &str) -> Value {
    serde_json::from_str(&text(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The one statement of a trust policy, which has to name a principal and to have conditions that match exactly.
#[track_caller]
fn trust(file: &str) -> Value {
    let policy = json(&format!("config/aws/trust/{file}"));
    assert_eq!(policy["Version"], "2012-10-17", "{file}");
    let [statement] = &policy["Statement"].as_array().expect("statements")[..] else { panic!("{file}: {policy}") };
    assert_eq!(statement["Effect"], "Allow", "{file}");
    assert!(!statement.to_string().contains('*'), "{file} trusts more than it names: {statement}");
    let conditions = statement["Condition"].as_object().unwrap_or_else(|| panic!("{file} has no condition"));
    assert_eq!(conditions.keys().collect::<Vec<_>>(), ["StringEquals"], "{file}");
    statement.clone()
}

#[test]
fn a_role_in_another_account_trusts_one_role_that_knows_the_external_id() {
    let statement = trust("other-account.json");
    assert_eq!(statement["Action"], "sts:AssumeRole");
    assert_eq!(statement["Principal"], json!({"AWS": format!("arn:aws:iam::012345678901:role/{ROLE_NAME}")}));
    assert_eq!(statement["Condition"]["StringEquals"], json!({"sts:ExternalId": "example-external-id"}));
}

#[test]
fn on_eks_a_role_trusts_one_service_account_of_one_cluster() {
    // The chart's ServiceAccount has its name, if the release has it too.
    let chart = yaml("charts/aws-iot-jobs-exporter/Chart.yaml");
    let name = chart["name"].as_str().expect("a name");

    let irsa = trust("irsa.json");
    assert_eq!(irsa["Action"], "sts:AssumeRoleWithWebIdentity");
    let provider = irsa["Principal"]["Federated"].as_str().expect("a provider");
    let (_, issuer) = provider.split_once(":oidc-provider/").expect("an issuer");
    let subject = format!("system:serviceaccount:monitoring:{name}");
    let wanted = json!({format!("{issuer}:aud"): "sts.amazonaws.com", format!("{issuer}:sub"): subject});
    assert_eq!(irsa["Condition"]["StringEquals"], wanted);

    let pod_identity = trust("pod-identity.json");
    assert_eq!(pod_identity["Action"], json!(["sts:AssumeRole", "sts:TagSession"]));
    assert_eq!(pod_identity["Principal"], json!({"Service": "pods.eks.amazonaws.com"}));
    let wanted = json!({
        "aws:SourceAccount": "012345678901",
        "aws:RequestTag/eks-cluster-name": "production",
        "aws:RequestTag/kubernetes-namespace": "monitoring",
        "aws:RequestTag/kubernetes-service-account": name,
    });
    assert_eq!(pod_identity["Condition"]["StringEquals"], wanted);
}

#[test]
fn the_readme_names_each_file_and_each_value_that_has_to_be_replaced() {
    let readme = text(README);
    let mut files = BTreeSet::new();
    for entry in std::fs::read_dir(shipped("config/aws/trust")).expect("the trust policies") {
        files.insert(entry.expect("a file").file_name().into_string().expect("a name"));
    }
    assert_eq!(files.iter().collect::<Vec<_>>(), ["irsa.json", "other-account.json", "pod-identity.json"]);
    for file in &files {
        assert!(readme.contains(&format!("[trust/{file}](trust/{file})")), "{README} does not name {file}");
    }
    assert!(readme.contains("[ecs.yaml](ecs.yaml)"));
    for value in ["`012345678901`", "`example-external-id`", "`monitoring`", "`production`"] {
        assert!(readme.contains(&format!("| {value} |")), "{README} does not say what to put in place of {value}");
    }
    let issuer = "`oidc.eks.eu-west-1.amazonaws.com/id/EXAMPLED539D4633E53DE1B71EXAMPLE` (three times)";
    assert_eq!(text("config/aws/trust/irsa.json").matches(&issuer[1..issuer.len() - 15]).count(), 3);
    assert!(readme.contains(issuer));
}

/// What a value of the template is, with the conditions of optional parameters true, and the partition `aws`.
fn resolved(value: &Value) -> Value {
    match value {
        Value::Object(map) => match map.iter().next() {
            Some((name, choice)) if name == "Fn::If" => resolved(&choice[1]),
            Some((name, text)) if name == "Fn::Sub" => {
                json!(text.as_str().expect("a text").replace("${AWS::Partition}", "aws"))
            }
            _ => Value::Object(map.iter().map(|(name, value)| (name.clone(), resolved(value))).collect()),
        },
        Value::Array(items) => Value::Array(items.iter().map(resolved).collect()),
        other => other.clone(),
    }
}

/// The properties of a resource of the template.
fn properties(resource: &str) -> Value {
    let properties = yaml(TEMPLATE)["Resources"][resource]["Properties"].clone();
    assert!(properties.is_object(), "{TEMPLATE} has no {resource}");
    properties
}

#[test]
fn the_task_may_do_what_the_largest_policy_allows_and_assume_the_roles_that_are_named() {
    let policies = properties("TaskRole")["Policies"].as_array().expect("policies").clone();
    let [policy] = &policies[..] else { panic!("{policies:?}") };
    let statements = resolved(&policy["PolicyDocument"]["Statement"]).as_array().expect("statements").clone();
    let tags = json("config/iam/tags.json")["Statement"].as_array().expect("statements").clone();
    let (last, first) = statements.split_last().expect("statements");
    assert_eq!(first, tags);
    assert_eq!((&last["Action"], &last["Resource"]), (&json!("sts:AssumeRole"), &json!({"Ref": "RoleArns"})));

    // What is optional hangs on a parameter. Without them, what is left is what the default configuration needs.
    let always: Vec<&Value> = policy["PolicyDocument"]["Statement"]
        .as_array()
        .expect("statements")
        .iter()
        .filter(|statement| statement["Fn::If"].is_null())
        .collect();
    let executions = json("config/iam/executions.json")["Statement"].as_array().expect("statements").clone();
    assert_eq!(always.into_iter().map(resolved).collect::<Vec<_>>(), executions);
}

#[test]
fn ecs_never_runs_two_tasks_and_asks_the_program_for_its_health() {
    let service = properties("Service");
    assert_eq!(service["DesiredCount"], 1);
    let deployment = &service["DeploymentConfiguration"];
    assert_eq!((&deployment["MinimumHealthyPercent"], &deployment["MaximumPercent"]), (&json!(0), &json!(100)));
    // It would start a task in another zone before it stops this one.
    assert_eq!(service["AvailabilityZoneRebalancing"], "DISABLED");

    let task = properties("TaskDefinition");
    assert_eq!(task["NetworkMode"], "awsvpc");
    let containers = task["ContainerDefinitions"].as_array().expect("containers");
    let [container] = &containers[..] else { panic!("{containers:?}") };
    assert_eq!(container["ReadonlyRootFilesystem"], true);
    assert_eq!(container["LinuxParameters"]["Capabilities"]["Drop"], json!(["ALL"]));
    let dockerfile = text("Dockerfile");
    let user = container["User"].as_str().expect("a user");
    assert!(dockerfile.contains(&format!("\nUSER {user}\n")), "the Dockerfile has another user than {user}");
    let command = container["HealthCheck"]["Command"].as_array().expect("a command");
    let program = command[1].as_str().expect("a program");
    assert!(dockerfile.contains(&format!("\nENTRYPOINT [\"{program}\"]")), "{program} is not the image's");
    assert_eq!(command[2..], [json!("--health.check")]);

    let ingress = &properties("SecurityGroup")["SecurityGroupIngress"];
    let [rule] = &ingress.as_array().expect("rules")[..] else { panic!("{ingress}") };
    let port = &container["PortMappings"][0]["ContainerPort"];
    assert_eq!([&rule["FromPort"], &rule["ToPort"], port], [&json!(10114); 3]);
    assert!(rule["CidrIp"].is_null(), "it is open to more than Prometheus");
}

#[test]
fn each_parameter_of_the_template_is_described_and_used() {
    let template = text(TEMPLATE);
    let parsed = yaml(TEMPLATE);
    let groups = parsed["Metadata"]["AWS::CloudFormation::Interface"]["ParameterGroups"].as_array().expect("groups");
    let shown: BTreeSet<&str> = groups
        .iter()
        .flat_map(|group| group["Parameters"].as_array().expect("names"))
        .filter_map(Value::as_str)
        .collect();
    let parameters = parsed["Parameters"].as_object().expect("parameters");
    assert_eq!(shown, parameters.keys().map(String::as_str).collect());
    for (name, parameter) in parameters {
        assert!(parameter["Description"].as_str().is_some_and(|text| text.ends_with('.')), "{name}: {parameter}");
        let is_used = template.contains(&format!("Ref: {name}}}")) || template.contains(&format!("${{{name}}}"));
        assert!(is_used, "{name} has no effect");
    }
}
